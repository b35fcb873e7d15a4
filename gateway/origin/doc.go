// Package origin is the far end: it serves what peers' gateways send over their
// links, from endpoints of the own cluster, and never routes on.
//
// Who asks is taken from the link's certificate, what for from the stream's
// header, and both are judged against the table in force: exported to that peer,
// a caller that the peer may assert, intentions. The address is then the
// catalog's, never the wire's. A refusal is typed, so that the near gateway knows
// whether to go elsewhere; the reason that operators see is finer than the one
// that peers get.
//
// A connection that could not be made goes to one other endpoint. Requests are
// balanced one by one. Ports of protocol http and grpc are carried as HTTP also
// where a peer sends a plain stream (its TCP way in, an upgrade): the endpoint then
// learns the caller from X-Forwarded-Client-Cert whichever way the call came in,
// and nobody can write that field past the gateway.
//
// The reserved service federation.CLUSTER leads to the own federation, which
// authenticates its peer end to end by itself.
package origin
