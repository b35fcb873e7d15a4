// Package peering joins and parts real clusters by the command: two whose gateways
// can be dialed, one behind NAT, each in a trust domain of its own; and lets the
// gateways of one come and go while it is called.
package peering
