// Package spire runs real SPIRE for the scenarios: a server and an agent of one
// trust domain, each a process that can be killed and started again, on loopback.
// The programs are those of e2e/tools/spire.
//
// Domains federate by https_spiffe, as two companies would: each server serves its
// bundle to whoever asks and follows the others' under the SPIFFE ID of their
// servers, after one exchange of bundles by hand.
package spire
