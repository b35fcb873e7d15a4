// Package workload serves the SPIFFE Workload API on a Unix socket: who calls is
// the kernel's word, and what callers are given is asked of a [View]. The embedded
// CA serves its own host with it, and its agents theirs.
package workload
