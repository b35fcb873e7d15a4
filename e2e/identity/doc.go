// Package identity runs one suite over everything that an identity of Isthmus can
// come from, each of it real: the embedded CA as a process, a SPIRE server with its
// agent, and files that are kept from either in three ways (rewritten in place as
// spiffe-helper does, swapped by symbolic link as Kubernetes does, written by
// SPIRE's own agent command). The life of an SVID is seconds, so that each run sees
// renewals, loss, alarm, expiry and return.
package identity
