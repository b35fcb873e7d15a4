// Package wire holds what two gateways say to each other inside their links:
// the header and the reply of a stream, control frames, probes, and the same
// facts as HTTP header fields. It encodes and parses bytes, and nothing else: no
// I/O of its own beyond io.Reader, no clock, the standard library only. Package
// tunnel is its user.
//
// # Protocol
//
// Version 1. All numbers are QUIC variable-length integers (RFC 9000, section 16)
// in their shortest form. TLV stands for a list of {type, length, value}: types
// strictly ascending, so without duplicates; a number as a value fills it
// exactly; a field that would say nothing (empty, zero) is absent. An unknown
// even type is skipped, an unknown odd type must be understood and is an error.
// There is one encoding of every message: what parses encodes back to the same
// bytes (unknown even fields aside).
//
// A bidirectional QUIC stream of ALPN isthmus/1 starts with its kind:
//
//	stream  := kind=1 · length · TLV header · payload ...
//	control := kind=2 · frame ...
//	flow    := kind=3 · length · TLV header · {length · datagram} ...
//
// The answer on a stream, and on a flow, is
//
//	reply   := status · length · TLV · payload (only after status ok) ...
//
// Payload follows the header in the same flight and the reply precedes the first
// payload byte of the other direction. FIN is half-close. RESET_STREAM and
// STOP_SENDING carry a [Status] as their code.
//
// Header fields: 1 service, 2 traceparent, 3 port, 4 deadline (ms), 5 caller,
// 6 attempt, 7 assurance, 8 priority, 10 hash of a sticky key, 13 subset (on links
// with [FeatureSubsets] only). 9 (session) and 11 (offset) are reserved for streams that can
// be resumed. Reply fields: 2 message, 4 retry-after (ms).
//
// The first bidirectional stream of every connection, whatever its ALPN, is the
// dialing side's control stream: it sends a [Hello] and the accepting side
// answers with its own. On connection 0 of a link it stays open for the life of
// the link and carries, both ways,
//
//	frame   := type · length · body
//
// of types 1 [Hello], 2 [Report], 3 [Drain], 4 Callback (no body: please dial a
// connection that I may send requests on), 5 [Challenge], 6 [Proof], 7 [Load], 8 [Rate].
// Frames of unknown type are skipped. On other connections it ends after the hellos, and
// with isthmus-h3/1 HTTP/3 begins then.
//
// # TLS lane
//
// Where UDP does not come through, a link runs on TLS 1.3 over TCP, on the port number
// of QUIC's, with ALPN isthmus-tls/1 for streams and control, isthmus-h2/1 and
// isthmus-h2-callback/1 for requests. Package gateway/tunnel/lane has the records in
// which a connection carries one stream at a time, with half-close, resets and the
// codes of [Status]; inside of them are the same hello, control frames, headers and
// replies. Connection 0 carries control and probes only, the others from 24 on a stream
// each: those up to 1023 are opened by the side that dialed, those above by the other
// one. With isthmus-h2/1 HTTP/2 begins after the hellos.
//
// # Re-authentication
//
// Where both hellos of connection 0 have [FeatureReauth], an end whose
// certificate changes proves the new one on the live link:
//
//	verifier                             prover
//	    challenge(nonce)        ──▶                   when the link comes up
//	                            ◀──  proof(n, ...)    when its certificate changed
//	    challenge(nonce', answers n, verdict) ──▶
//
// A proof signs, with the key of the new certificate, who proves to whom, the
// link, the nonce, and one exporter value of each of the link's TLS connections
// ([ProofTranscript]); package identity puts the chain and a context before it
// that no other signature of these keys has. A nonce is good for one proof; a proof
// without a challenge, and one whose signature is wrong, breaks the protocol. A
// verdict other than ok means that the certificate was not accepted (now): the
// link keeps its deadline, and another challenge asks for another proof. A link
// whose end has no feature is replaced before its certificates end instead.
//
// QUIC datagrams on connection 0: kind=1 is a [Probe]. Others are dropped.
//
// # Flows
//
// A flow is the UDP datagrams between one address of a caller and one endpoint. It is
// opened only on links whose both ends have [FeatureFlows], and lives as long as its
// stream, whose FIN or reset ends it for both ends. Each datagram travels once, one of
// two ways:
//
//	on the stream     length · datagram, behind the header or the reply
//	as QUIC datagram  kind=3 · stream id · datagram
//
// The stream takes what is sent before the reply, what is larger than a QUIC datagram may
// be on the path at that moment, and everything where the connection has none (connection
// 0, which is the probes'). A QUIC datagram of a stream that is not known (yet, any more,
// or no flow) is dropped. Nothing is said of order between the two.
//
// HTTP/3 requests (ALPN isthmus-h3/1, and isthmus-h3-callback/1 where the
// accepting side is the client) carry header and reply as the fields named by
// the constants Field...; they are set by the tunnel only, and everything that
// looks like them is removed from what comes from outside.
//
// # Version history
//
//	1  2026-11: first version.
//	1  2026-11: feature 1, re-authentication: frames 5 and 6.
//	1  2026-11: capacity: frame 7, header field 8; who does not know them skips them.
//	1  2026-11: feature 2, subsets: header field 13; header field 10, hash.
//	1  2026-11: frame 8, rates of links; field 16 of a load's rows, processing time.
//	1  2026-11: field 18 of a load's rows, zones that are out.
//	1  2026-11: feature 4, flows: kind 3 of streams and of QUIC datagrams.
//	1  2026-11: TLS lane, with connection numbers up to 2023 and as many bindings in a proof.
package wire
