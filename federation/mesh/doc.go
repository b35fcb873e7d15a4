// Package mesh is the federation's door for machines: one TCP listener with
// mutual TLS, on which the gateways of the own cluster and the federations of
// the peers are served, each known by the SPIFFE ID of its certificate and by
// nothing else.
//
//   - /gateway/v1/... is for `CLUSTER ID/gateway/NAME`: the route table as a
//     stream, and reports. The name is taken from the certificate; a report under
//     another name is refused.
//   - /exchange/v1/... is for the exact ID of a configured peer's federation. The
//     handler is given the peer's name as the configuration has it: nothing in a
//     request can change the origin of what it says.
//
// Everybody else is refused in the handshake. A connection outlives its
// handshake, so each one is judged anew when peers or bundles change (Recheck),
// and cut at once if its owner has lost its place.
//
// Package federation owns the server; federation/client holds the gateway's side.
package mesh
