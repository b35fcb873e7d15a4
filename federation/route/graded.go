package route

import "math"

// Graded is calls at once by who may make them: the more important ones may fill more.
// What a cluster grants is graded, since a critical call of a peer's is worth more than
// a low one of its own, and a low one is not.
//
// The parts add up, so that one who knows of no grades reads Any, which holds for every
// call.
type Graded struct {
	// Any is for calls of every priority.
	Any uint64
	// Default is what those of default priority and above may fill beyond Any.
	Default uint64
	// Critical is what only critical ones may fill, beyond both.
	Critical uint64
}

// UpTo is how many calls at once there may be for one more of priority p to be made.
func (g Graded) UpTo(p Priority) uint64 {
	n := g.Any
	if p != PriorityLow {
		n = added(n, g.Default)
	}
	if p == PriorityCritical {
		n = added(n, g.Critical)
	}
	return n
}

// Covers reports whether g allows whatever o does.
func (g Graded) Covers(o Graded) bool {
	for _, p := range servedFirst {
		if g.UpTo(p) < o.UpTo(p) {
			return false
		}
	}
	return true
}

// Plus adds up part by part.
func (g Graded) Plus(o Graded) Graded {
	return Graded{added(g.Any, o.Any), added(g.Default, o.Default), added(g.Critical, o.Critical)}
}

// Times is a part of g, from 0 to 1.
func (g Graded) Times(part float64) Graded {
	of := func(n uint64) uint64 { return uint64(float64(n) * part) }
	return Graded{of(g.Any), of(g.Default), of(g.Critical)}
}

// AtLeast raises g to what o allows, priority by priority.
func (g Graded) AtLeast(o Graded) Graded {
	return GradedOf(max(g.UpTo(PriorityLow), o.UpTo(PriorityLow)), max(g.UpTo(PriorityDefault), o.UpTo(PriorityDefault)),
		max(g.UpTo(PriorityCritical), o.UpTo(PriorityCritical)))
}

// GradedOf is what calls of low, default and critical priority may fill up to; who is
// above may fill no less.
func GradedOf(low, def, critical uint64) Graded {
	def = max(def, low)
	return Graded{Any: low, Default: def - low, Critical: max(critical, def) - def}
}

// added does not wrap: evidence may have been read from outside.
func added(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}
