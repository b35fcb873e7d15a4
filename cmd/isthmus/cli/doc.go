// Package cli is the isthmus command line: one file a command, each of which
// reads flags, calls a package and prints. Run takes all it needs as arguments,
// so that tests call it in-process.
package cli
