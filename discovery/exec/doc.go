// Package exec reads a catalog from a child process that prints it: sources with
// heavy SDKs or in other languages stay out of the serving process, with their
// credentials and their crashes.
//
// # Protocol
//
// The child prints JSON objects, one a line of at most MaxLine bytes, each with
// exactly one key. Unknown keys anywhere are errors.
//
//	{"hello":{"version":1}}                          first, once
//	{"begin":{"full":true}}                          a list of everything begins
//	{"begin":{"full":false}}                         a change of the last commit begins
//	{"service":{...}}                                put this service in place (catalog.Service)
//	{"endpoints":{"service":"a.b","endpoints":[..]}} more endpoints of a service put since begin
//	{"remove":"a.b"}                                 remove it (not in a full list)
//	{"commit":{"services":2,"endpoints":9}}          now it counts; the totals that result
//	{"unchanged":{}}                                 everything was read again: as committed
//	{"error":{"message":"..."}}                      a read failed; drops what began
//
// The first commit is of a full list, and every few minutes another one is.
// Between begin and commit nothing takes effect, and the totals of commit tell a
// lost line. A child that prints nothing for Config.MaxSilence is taken for dead:
// unchanged is also its sign of life.
//
// On its standard input the child may read lines, or not: {"reread":{}} asks it to
// read everything now. When its standard input ends, its parent is gone, and it
// ends too. What it prints to standard error is logged.
//
// Writer and Serve are the child's side for programs in Go, Source is the
// parent's. Used by cmd/isthmus for sources of kind "exec", and by
// cmd/isthmus-source.
package exec
