// Package crashtest ends a process before each step of a write, fills and locks
// the disk under it, and flips bytes of what it has written: after each the state
// of before or the new one must serve, whole, and damage must be told.
//
// A package tests each of its write points by a [Case]; the architecture test
// looks that none is left out.
package crashtest
