// Package workload speaks mTLS with workloads: it takes who has an identity of its
// own for who calls, and dials endpoints that speak nothing else.
//
// A gateway may be somebody in several trust domains: in its own by its SVID, and in
// each service mesh that it has joined (a Consul cluster) by certificates of that
// mesh's CA. [Identities] holds them. Which one is shown follows from the other end:
// a [Door] is of one identity, and an endpoint is dialed with the identity of the
// trust domain that it must prove to be of.
//
// A Door lets in who proves an ID of the Door's own trust domain; that ID is the
// caller that everything behind it judges. Other domains have gateways of their own.
//
// A [Dialer] goes on only with an endpoint that proves exactly the ID that the
// catalog says. In TLS 1.3 it is done before the endpoint has judged its certificate;
// it waits for the endpoint's sign (identity.Source.WorkloadClientTLS), so that a
// refusal is a refusal of the connection and nothing has been delivered. Where an
// endpoint gives no sign, a refusal that comes later is still told from a broken
// connection, as [DeniedError].
//
// Connections outlive their handshakes. When roots change, those are ended whose
// certificate no longer leads to one (Live); that a certificate expires meanwhile ends
// nothing: TLS has no way to show another one, and databases keep connections for
// days.
package workload
