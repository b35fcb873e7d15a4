// Package simulate says what would happen to the calls of the own cluster's callers
// if clusters, regions or clouds died, lost capacity, or were led by other traffic
// policies: where calls would go, how long they would take, what would carry more
// than before, and what would break.
//
// It is pure. It takes a Recording, which is the tables, the evidence and the demand
// of the own gateways (live, or read from a file), changes the tables and the
// evidence as the change would, compiles them as gateways do (route.Compile), and
// makes the calls of the demand (route.Plan.Rehearse) before and after. Two moments
// are looked at: at once, when links have fallen silent and the dead still count as
// part of what there should be, and settled, when they are withdrawn.
//
// It knows what the own gateways know. Calls of other clusters' callers, and what
// those do to the clusters that are left, are for their federations to say; where a
// figure would need a guess it is absent.
package simulate
