// Package demo holds the scenarios of the demo, on its real processes: who
// answers while all is well, and what a caller sees when instances, a region, a
// gateway or every federation service is killed and comes back.
//
// Counts are asserted; times are printed as figures, and only a gross miss
// fails, since the machine is shared.
package demo
