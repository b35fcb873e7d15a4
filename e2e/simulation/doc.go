// Package simulation runs the whole control and decision layer of several clusters in one
// goroutine, on modelled time, networks, disks and faults, all drawn from one seed, and
// checks after every step what must hold.
//
// The decisions are the product's: the guard, merge, the tables, both ends of the exchange,
// the plan and its picks, authorization, ejection, ramps, attempts and their budgets, the
// order of tables at a gateway, when a federation that starts may speak, when a link is
// dead. What is around them is modelled here: processes that crash, stall and have
// wrong clocks, ways that lose, delay, double and reorder, sources that lie, clients and
// endpoints. The oracle knows the truth and judges by its own, simpler reading of the rules.
//
// Run is one run: the same Config gives the same Result, its hash included, which is of
// everything that happened. Bugs are faults that can be planted where the decisions are
// asked (seams), to see whether the invariants catch them; the product knows nothing
// of them. Watch strains a single link. README.md says what is modelled how, and how to
// go after a seed that fails.
package simulation
