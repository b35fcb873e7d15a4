// Package board keeps the plan that a gateway routes by, and the evidence that
// the plan is compiled from: what hangs on the wall of a control room.
//
// Evidence is what the data path saw, slowly changing: which clusters have a
// link, how far they are, which targets and endpoints failed in a row, what
// active checks found, what far gateways say of their own endpoints. Each change
// marks the board; Run compiles a new plan at once, then at most every
// MinInterval, so that a thousand changes cost one plan. Readers take the plan
// by an atomic pointer and are never blocked. Live counters outlive plans.
//
// Fail-back is kept here as time: a cluster whose links come back and a target
// that is in service again pass a hold-down and a ramp (route.Ramp). What has
// never been out needs none, so a gateway that starts serves at once.
//
// The decisions are route's: this package holds state, clocks and locks for it.
package board
