// Package history records every change of policy and peers: what changed, when,
// from what to what, who asked for it and why.
//
// Log stands between the writers and the store: a write of a recorded kind and
// its record are one transaction, so that there is no change without a record
// and no record of a change that was not made. Several processes may write to one
// store: each record is made under check-and-set of the head.
//
// # The chain
//
// Records are numbered from 1 without gaps. Each holds the SHA-256 of the one
// before it and its own, over a canonical form (see Record.Sum): to change one is
// to change all that follow, and the head. Verify finds the first that does not
// fit.
//
// # Past states
//
// At rebuilds the state after any record: the rules of the store with the
// revisions that they had, and those of the config file, whose changes are
// recorded too. What is read of it is, byte for byte, what was read then.
//
// # Bounds
//
// Beyond MaxRecords or MaxBytes the oldest records go: not those that a rule's
// state still stands on, and never silently. Compaction writes a checkpoint, a
// record of the chain like every other: up to where records were dropped, the
// hash of the last of them, how many stay as the base and the digest of the
// base. What is older than a checkpoint is answered with ErrCompacted.
package history
