// Package tunnel joins gateways by links: authenticated connections, of QUIC and in
// its absence of TLS, that carry streams, HTTP/3 requests, probes and control frames from one cluster to
// another. Package gateway is its user; it and its subpackages are the only ones
// that know quic-go.
//
// A [Node] is one gateway's end of all its links. One UDP socket listens and
// dials. A link is a set of connections to one process of one remote gateway, all
// dialed by the same side: raw ones (ALPN isthmus/1) for streams, of which the
// first also carries the control stream and the probes, and HTTP/3 ones (ALPN
// isthmus-h3/1) for requests. There are several of each, because quic-go's only
// congestion control is Reno and one window is the wrong unit for a path. Every
// connection starts with a hello each way, so that all of a link reach the same
// process.
//
// Contracts:
//
//   - Who may link is decided by SPIFFE ID and the roster ([Node.SetPeers]), at
//     every handshake and again for every live link when the roster, a bundle or
//     the own SVID changes. What a peer calls itself is compared, never believed.
//   - A new stream or request through a link costs one round trip for question
//     and answer: nothing is asked first. The far gateway's typed answer precedes
//     the first payload byte.
//   - Errors say what a caller must know before it tries elsewhere: [LinkError]
//     whether anything may have been delivered, [RefusedError] why the far end
//     did not take it, [ResetError] that a direction was cut.
//   - A link is dead when seven probes in a row are missed and nothing else is
//     heard, or when the other end says so of us; all its streams are reset then,
//     within 0.9 s of a cut at the default interval.
//   - A rotation of certificates cuts and replaces nothing: each end proves its new
//     one on the live link, for all of its connections (see package wire and
//     proofs.go). What counts, for the deadline and for every later check, is what
//     was proven last. A link without fresh proof closes when the first certificate
//     ends.
//   - Everything else changes make-before-break: links that are near their deadline
//     all the same (a peer of an older version), changed addresses and bootstrap
//     links are replaced by a link that is up first, and the old one finishes its
//     streams. Revocation breaks at once.
//   - Whatever a peer can make us keep or do is bounded; bounds.go has each bound
//     with its reason.
//
// We send on links that we dialed; to a gateway that we cannot dial, on those
// that it dialed, where HTTP requests need connections that the other side dials
// for us to call back on.
//
// Where UDP does not come through, a link runs on TLS over TCP instead, behind the
// same two calls, [Node.OpenStream] and [Node.RoundTrip]: subpackage ladder says when,
// subpackage lane is its connection, climb.go runs the one and pool.go keeps the others.
//
// The seams for what is to come: more connections under load; paths over a third cluster.
package tunnel
