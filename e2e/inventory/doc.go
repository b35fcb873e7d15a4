// Package inventory is the worked example of docs/sources.md: a source of one's
// own, which reads a JSON document over HTTP.
//
// It is here so that the tests compile it, run the contract test on it, run its
// program behind the exec source, and find the guide's code to be this code. It is
// written as it would be in a repository of its own.
package inventory
