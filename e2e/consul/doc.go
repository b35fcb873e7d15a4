// Package consul runs two clusters whose catalogs are two real Consul
// datacenters, and follows calls while services are registered, fail their
// checks and go, and while Consul itself is killed, restored and reset.
package consul
