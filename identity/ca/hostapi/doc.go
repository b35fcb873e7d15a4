// Package hostapi is what the embedded CA and its agents on other hosts say to
// each other: HTTP/1.1 with JSON over TLS 1.3, on one TCP port.
//
// Two application protocols share the port. With [ALPNJoin] the client has no
// identity yet: it verifies the CA against the roots that its join token carries,
// and sends the token's secret and a certificate request. With [ALPNHost] both
// sides show SVIDs, and the CA knows the host by its own: spiffe://TRUST
// DOMAIN/isthmus/ca/host/NAME.
//
//	POST /v1/join    Join    -> Joined     once per token
//	POST /v1/renew   Renew   -> Certified  the host's own SVID
//	POST /v1/sign    Sign    -> Signed     SVIDs of the host's workloads
//	GET  /v1/config?version= -> Config     entries and bundles; waits for a change
//
// Keys are made on the host and never leave it: the CA sees certificate requests,
// and takes nothing from them but the public key.
package hostapi
