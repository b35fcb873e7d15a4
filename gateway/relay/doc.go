// Package relay carries one HTTP request from a server to where it goes, by the
// rules that hold at the near and at the far gateway: nothing from outside is
// trusted, bytes are handed on as they come, and an error says why.
//
//   - Strip removes the fields that only gateways write (identity, forwarding,
//     the tunnel's own), in every spelling that a careless reader could take for
//     one. Caller writes X-Forwarded-Client-Cert in Envoy's form.
//   - NewProxy is the standard library's ReverseProxy, set up for full-duplex
//     streaming, trailers and gRPC.
//   - WriteProblem answers with an RFC 9457 problem and the field Isthmus-Reason,
//     or with a gRPC status where the caller speaks gRPC.
//   - Upgrade hands a connection over once the service has switched protocols
//     (WebSocket), and not before: an answer other than 101 stays HTTP, so that
//     nothing slips behind it.
package relay
