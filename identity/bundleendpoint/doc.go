// Package bundleendpoint serves and follows SPIFFE bundle endpoints: the HTTPS
// addresses at which a trust domain publishes its bundle, so that another one
// keeps trusting it across the rotation of its roots (SPIFFE Federation
// specification, section 5).
//
// A [Server] publishes the own bundle, a [Follower] keeps up with another
// domain's. Both speak the two profiles of the specification: https_spiffe, where
// the server shows an SVID and is verified against the bundle that is held for
// its trust domain, and https_web, where it shows a certificate for its host
// name.
//
// A server at the far end is hostile until its answer has passed every guard:
// the URL (https, no user info), TLS 1.3 and who is at the other end, status 200
// and no other, no redirect, no compression, at most [identity.MaxBundleBytes]
// bytes, at most [FetchTimeout] from the first packet to the last byte, a
// document that parses and is not empty, and a sequence number that does not go
// back. Whatever fails leaves the last good bundle in force, in memory and on
// disk. go-spiffe's FetchBundle has none of the guards between TLS and the
// parser, and its WatchBundle none behind it, which is why neither is used.
package bundleendpoint
