// Package consultest runs real Consul agents for tests: one server each, on
// loopback and free ports, to be killed, restored and started anew.
package consultest
