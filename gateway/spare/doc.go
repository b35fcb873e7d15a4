// Package spare divides what a cluster has to spare of a service's capacity between
// the peers that want some, and measures what is wanted. It is pure: time is an
// argument, and nothing is shared between goroutines.
//
// A Demand turns the counts of a route.Meter into calls at once that callers want,
// those that were refused included. A Granter divides: what the own callers leave is
// granted to peers' gateways by what they want, for the length of a lease, and no
// slot is granted to two of them: what one may still use under an older grant is
// kept from the others until that grant's lease is over. More is granted to calls of
// higher priority, since own calls of lower priority give way to them.
//
// Nothing here feeds on its own effect: the spare is the capacity less the demand of
// the own callers, whoever of them is served, and not the capacity less what is in
// use. So grants follow demand and do not oscillate.
package spare
