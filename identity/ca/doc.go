// Package ca is the embedded certificate authority of one trust domain: a real
// SPIFFE Workload API server on a Unix socket with its own roots. It is what the
// demo and small set-ups use where a bigger one runs SPIRE; consumers cannot tell
// the two apart and change between them by configuration alone. It runs as a
// process of its own per trust domain (isthmus ca serve).
//
// What it does:
//
//   - Workloads are attested by the uid that the kernel names for the other end of
//     the socket; an entry binds a uid to a SPIFFE ID. A uid is the border: processes
//     of the same uid get the same IDs.
//   - FetchX509SVID and FetchX509Bundles are streams; rotated SVIDs are pushed at 40
//     to 50 % of their life, changed bundles at once. The JWT and WIT profiles answer
//     Unimplemented.
//   - Every stream has keys of its own; a leaf hangs directly below a root, so that
//     chains are one certificate long.
//   - Roots overlap: the next one is published a quarter of a root's life before it
//     signs, and an old one stays in the bundle until it expires.
//   - Roots, their keys and the bundle's sequence number are kept in one file that
//     only the owner can read, and survive a restart. A corrupt file stops the start:
//     new roots would cut every peer off.
//   - Bundles of federated trust domains are read from files and read again when
//     these change, under the rules of package identity: never empty, never older,
//     never pooled. The own bundle is written to a file for the other side.
package ca
