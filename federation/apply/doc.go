// Package apply brings the rules of a federation in line with files that people
// keep under version control: it reads the files, compares three states and
// plans the writes.
//
// The three states of a rule are what a set of files applied last (base), what
// the files say now (want) and what the federation holds (live). A field that the
// files changed since is written; a field that somebody else changed and the
// files did not stays; a field that both changed differently is a conflict, and
// nothing is overwritten unless it is forced. A rule that the set applied and the
// files no longer have is removed; one that the set never applied is left alone.
//
// Planning is pure. A Guard keeps a wrong folder or an empty file from removing
// everything. The writes themselves are the caller's (the commands `isthmus apply`
// and `isthmus diff`): each carries the etag that the plan was made from, so that
// a plan never overwrites what it has not seen.
package apply
