// Package cli runs sessions at the command line against a real federation with a
// gateway: what is typed, what is printed, which exit code. The sessions are
// scripts in testdata.
package cli
