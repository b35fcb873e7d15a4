// Package feed keeps a list so that it can be paged through and watched.
//
// A Feed holds immutable items by key, in the order of their keys. Whoever owns
// the data replaces the list as a whole; the feed works out what changed, gives
// each change a revision and remembers the last ones. Readers pull: a slow one
// costs no memory, and one that fell too far behind is told so (ErrGone) and
// lists anew.
//
// The REST API serves every list from one.
package feed
