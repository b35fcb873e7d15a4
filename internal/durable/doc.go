// Package durable is the one way in which Isthmus changes what is to outlive the
// process: files that are replaced whole, files that are appended to, names that
// are moved and removed.
//
// Every change belongs to a [Point], which names what is kept, and is a sequence of
// steps: create, write, sync, rename, sync the directory. Between any two of them
// the process may be killed, the disk may fill up or turn read-only. [Watch] shows
// the steps to a test, which can end the process before any of them or make it
// fail: e2e/crash does both, at every step of every point. The architecture test
// keeps other packages from writing in another way.
package durable
