// Package drill drills on real processes, by the command line: what a drill does is what
// was predicted, nobody is harmed by it where all is well, hardly anybody where it is not,
// and it goes on over the death of neither a federation nor a gateway.
package drill
