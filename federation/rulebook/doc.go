// Package rulebook is the policy of one cluster as one book with two hands in
// it: the rules of the config file, which nothing but the file changes, and the
// rules that operators keep in the store.
//
// A Shelf holds one kind of rule: it is listed and watched through a feed, and
// written by check-and-set. What a write has answered holds for every read that
// comes after it. Where a name is in both places the file's rule holds and the
// stored one is shadowed until the file lets go of the name.
//
// The REST API writes to it, the federation builds tables from Set.
package rulebook
