// Package audit keeps who changed what, from where, and with what outcome, in
// files that are only ever appended to.
//
// An entry is one line of JSON. It carries the hash of the entry before it
// (previous) and its own (hash, SHA-256 over the line's bytes up to that member),
// so that a byte that changes, a line that goes and a line that comes in between
// are found by [Verify]. The chain goes on from file to file; the file's name is
// the sequence of its first entry. What the chain cannot show is that its newest
// entries were cut off: compare [Report.Head] with a copy kept elsewhere.
//
// [Log.Append] returns once the entry is on the disk; calls that come together
// share one flush. A write that fails leaves the file as it was, and the next
// call tries again. A line that a crash cut off was never acknowledged: it is
// taken away when the log is opened, and an entry says so. Damage further back is
// left as it is for whoever investigates; the log goes on in a new file, whose
// first entry names it.
package audit
