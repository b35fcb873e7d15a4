// Package drill is a gateway's part in a drill (route.Drill): when calls are drilled,
// what became of them, and when that must end.
//
// A drill ends by itself, at once and for good: when its time is over by either clock,
// when the federation has not taken a report for route.DrillLease, when an operator sets a
// switch, when a real failure shows up (a link that was up goes down or drains, a service
// is ejected), and when drilled calls do worse than others. A gateway that has started
// since a drill was ordered is not among its members, so that none goes on over a restart.
//
// # Whether drilled calls do worse
//
// A call is bad if its first attempt fails, or gets no answer within twice what was
// predicted of it, or what others take on average, and Slack. Drilled calls that hang are
// bad as soon as that is over, not when their callers give up.
//
// Each bad and each good call moves a score by what it says for "one in 1/Worse is bad"
// against "no more than Usual, or what undrilled calls show now, are": a cumulative sum
// test (Page, "Continuous inspection schemes", Biometrika 1954), which never falls below
// zero, so that a region that breaks after an hour is found as fast as in the first minute.
// It ends the drill at Limit. Both errors are bounded by that: while no more than Usual of
// the drilled calls are bad, an end for no reason comes once in e^Limit = a million drilled
// calls or more seldom by each score (there are two: of the port, and of all calls); if all fail, Limit/ln(Worse/Usual) = 6 calls are harmed, and those
// that are under way meanwhile. What lies between Usual and about half of Worse may go on.
//
// Undrilled calls have a score of the same kind with coarser marks: a drill has no place
// where calls fail anyway, and must not be what makes them.
package drill
