// Package agent is how the packages of discovery/consul reach a Consul agent:
// where it is, who they are, and what is made of its answers before consul/api
// reads them. It holds no rule of what is read or written there.
package agent
