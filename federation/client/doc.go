// Package client is the Go client of a federation: Client speaks the REST API
// (command line, tests, programs of others), Gateway speaks the mesh protocol on
// a gateway's behalf.
//
// A Client reads and writes resources over the Unix socket or over loopback TCP
// with the token; lists and watches are iterators. A Gateway holds one mTLS
// connection to its own federation and no other server: it is a gateway's source
// of route tables and the sink of its reports, and comes back by itself for as
// long as it runs.
package client
