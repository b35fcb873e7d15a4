// Package replicas runs one cluster's federation as three processes on a Consul
// of three servers, and kills any of them under load.
package replicas
