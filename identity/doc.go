// Package identity answers two questions for every process of Isthmus: who am
// I, and who is at the other end.
//
// A [Source] holds one X.509-SVID and the trust bundles of its own and of
// federated trust domains. It reads them from a SPIFFE Workload API (SPIRE's
// agent or the embedded CA of identity/ca, nothing differs) or from files that
// another program keeps ([Files]), and keeps the last good ones in memory and, if asked, in a file that is readable by its owner
// only, so that a process starts again while every other process is dead.
//
// Contracts:
//
//   - [Source.ServerTLS] and [Source.ClientTLS] are the only constructors of
//     TLS configurations in Isthmus: TLS 1.3, exact ALPN, no session tickets, no
//     session cache, chain and authorization checked in VerifyConnection against
//     the bundle that is current at that handshake. crypto/tls skips
//     VerifyPeerCertificate on a resumed session, so a check that lives there
//     can be bypassed by a client that kept a ticket; VerifyConnection is always
//     called.
//   - Bundles are bound to their trust domain and are never pooled: a chain is
//     checked against the bundle of exactly the trust domain that its leaf
//     claims. CA A cannot mint an identity of domain B.
//   - Last good data is never replaced by partial, older or empty data. An
//     explicit removal ([Source.RemovePeerBundle], or a complete Workload API
//     answer without the domain) takes effect at once.
//   - [Source.Prove] and [Source.VerifyProof] show on a live link what a handshake
//     shows on a new one, so that rotation cuts nothing. Such a signature cannot
//     pass for one of TLS, nor the reverse.
//   - A source that fails costs nothing until half of the SVID's remaining life has
//     passed; then [Source.Standing], a metric and the log raise an alarm.
//   - An expired SVID is never presented: handshakes fail with a [*PeerError]
//     whose reason is [ReasonOwnSVIDExpired].
//   - Everything that is refused is refused with a typed reason, logged (at a
//     bounded rate) and counted.
//
// Where both the Workload API and a peer give a bundle for the same trust
// domain, the Workload API wins: it is the local administrator's word, while the
// peer's document is the remote's word about itself. The peer's one is kept and
// used again if the Workload API stops naming that domain.
//
// Package identity (with its subpackages) is the only importer of go-spiffe
// beyond spiffeid. Gateways, federation services and the command use it; none of
// them sees a private key.
package identity
