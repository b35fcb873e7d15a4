// Package processors has a process run on one processor while one is more than enough.
//
// A federation service works for a fraction of a millisecond, some two hundred times
// a second. Each time, Go's runtime wakes a second thread that looks for more work on
// another core, finds none, and goes to sleep again: with one processor (GOMAXPROCS)
// there is nobody to be woken. A first sync, a collection of a large heap and lists of
// a million endpoints need all that there are. So [Follow] looks once a second what
// the process has used: a few quiet seconds narrow it to one processor, and one second
// that used half a core widens it again, as does one in which it waited for a core.
// Either is a stop of some tens of microseconds.
package processors
