// Package dns reads services from the DNS: SRV records, or A and AAAA records with
// a port of the configuration.
//
// Every name is asked for again when its TTL has passed, within a floor and a cap,
// on its own: a name that cannot be resolved keeps what was last known of it, and
// holds no other one back. NXDOMAIN and "no data" are answers: the service has no
// endpoint, which is for the guard to believe. SERVFAIL, REFUSED, silence and
// answers that make no sense are none.
//
// Answers are asked for over UDP with EDNS0, and again over TCP where they are cut.
// The resolvers are trusted, as those of the operator's own network; nothing is
// validated by DNSSEC here.
//
// Used by cmd/isthmus for sources of kind "dns".
package dns
