// Package control is the own federation's way to its peers: an HTTP/1.1 CONNECT
// over mTLS, to federation.CLUSTER:443 and nothing else, opens a stream to that
// cluster's federation over the gateways' links. The two federations then speak
// mTLS with each other inside it; the gateways carry bytes that they cannot read.
//
// Only the exact ID of the own federation is admitted. There is no other method,
// no other target and no other port: this is no proxy for anything else.
package control
