// Package sniway is the way in for TLS that the caller and the endpoint speak with
// each other: one listener for many services, told apart by the server name in the
// ClientHello (SNI, RFC 6066 section 3). Nothing of TLS ends here: the gateway reads
// the ClientHello, which is not encrypted, and carries it on with all that follows,
// so that both ends prove to each other who they are and the gateway holds no key.
//
// The names are those of the mesh (web.shop.mesh), of Consul's service mesh
// (web.shop.dc2.internal.TRUST-DOMAIN) and of Istio's
// (outbound_.8443_._.web.shop.svc.cluster.local). A name only looks up an imported or
// own service; the caller is who the listener says, and only ports of protocol tls are
// served, since the far end would read the bytes of others.
//
// What is refused is told to the caller in TLS's own words, an alert, before the
// connection is closed.
package sniway
