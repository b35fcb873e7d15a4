package route

import (
	"math"
	"time"
)

// RampOptions are the parameters of a fail-back; the zero value means
// DefaultRamp's.
type RampOptions struct {
	// Hold is how long a target that is back gets nothing that others can take.
	Hold time.Duration
	// Step is the share of its load that it gets more per Interval.
	Step     float64
	Interval time.Duration
}

// DefaultRamp is 60 s, then 10 % per 10 s.
func DefaultRamp() RampOptions {
	return RampOptions{Hold: time.Minute, Step: 0.1, Interval: 10 * time.Second}
}

const (
	// maxHolds bounds the hold-down of what flaps, in holds.
	maxHolds = 5
	// settled is for how many holds the capacity that is back must not have grown to
	// count as all that comes.
	settled = 5
)

// Ramp brings the load of a target (or of a whole cluster, after its links came
// back) back step by step: nothing for Hold, then Step more at the start of each
// Interval, and never more than the part of its capacity that is back: one instance of
// thirty that come up one by one is no place for the load of thirty. The zero value is
// a target in full service: one that was never out needs no ramp. It is pure: it holds
// no clock and no lock.
//
// What leaves again before it has served in full for as long as it was held back is
// held back twice as long, up to five times Hold: what flaps is left alone.
//
// What it holds back goes to where else the call can go; if there is nowhere,
// Compile ignores it.
type Ramp struct {
	out bool
	// back is when the hold-down began; zero where time holds back nothing.
	back     time.Time
	relapses int
	// returning: the part of the capacity that is back counts.
	returning bool
	// reference is the capacity that carried the load, ready what there is of it.
	reference, ready uint64
	// below is since when ready is less than the reference and has not grown.
	below time.Time
}

// hold is the hold-down of now.
func (r *Ramp) hold(o RampOptions) time.Duration {
	return min(o.Hold<<min(r.relapses, 8), maxHolds*o.Hold)
}

// Out records that the target left service (ejected, nothing ready, links
// down). It also aborts a ramp under way: the next one begins anew.
func (r *Ramp) Out(now time.Time, o RampOptions) {
	if r.out {
		return
	}
	if !r.back.IsZero() {
		if o == (RampOptions{}) {
			o = DefaultRamp()
		}
		switch withheld, full := r.byTime(now, o); {
		case withheld >= 1: // it had nothing yet
		case withheld > 0 || now.Sub(full) < r.hold(o):
			r.relapses++
		default:
			r.relapses = 0
		}
	}
	r.out, r.back, r.returning = true, time.Time{}, true
}

// Back records that it is in service again since now; only the first call
// after Out counts.
func (r *Ramp) Back(now time.Time) {
	if r.out {
		r.out, r.back = false, now
	}
}

// Join records that the target is new, where the given capacity of others carries the
// load: no hold-down, but no more than its part.
func (r *Ramp) Join(reference uint64) { r.reference, r.returning = reference, true }

// Ready tells how much capacity is in service, in any unit: that of ready endpoints.
// In full service the most of it is what carried the load.
func (r *Ramp) Ready(ready uint64, now time.Time, o RampOptions) {
	if o == (RampOptions{}) {
		o = DefaultRamp()
	}
	switch {
	case ready >= r.reference:
		r.reference, r.below = ready, time.Time{}
	case ready == 0: // nothing of it says how much there will be
	case ready > r.ready || r.below.IsZero():
		r.below = now
	case now.Sub(r.below) >= settled*o.Hold:
		// What is here is all that comes. It goes on from where it is, by time.
		if r.returning && !r.out {
			steps := time.Duration(float64(ready) / float64(r.reference) / max(o.Step, 1e-9))
			if at := now.Add(-r.hold(o) - steps*o.Interval); at.After(r.back) {
				r.back = at
			}
		}
		r.reference, r.below = ready, time.Time{}
	}
	r.ready = ready
	if withheld, _ := r.byTime(now, o); withheld == 0 && !r.out && r.ready >= r.reference {
		r.returning = false
	}
}

// Holding reports whether it gets nothing yet that others can take.
func (r *Ramp) Holding(now time.Time, o RampOptions) bool {
	withheld, _ := r.Withheld(now, o)
	return withheld >= 1
}

// Withheld is the part of the load, 0 to 1, to hold back at now: the value for
// LinkEvidence.Withheld and TargetEvidence.Withheld. next is when it changes,
// zero if it does not by itself. A target that is out withholds nothing: what
// put it out excludes it already.
func (r *Ramp) Withheld(now time.Time, o RampOptions) (withheld float64, next time.Time) {
	if o == (RampOptions{}) {
		o = DefaultRamp()
	}
	if withheld, next = r.byTime(now, o); withheld == 0 {
		next = time.Time{}
	}
	if r.returning && !r.out && r.ready < r.reference && r.ready > 0 {
		withheld = max(withheld, 1-float64(r.ready)/float64(r.reference))
	}
	return withheld, next
}

// byTime is what time alone holds back; at is when that changes next, or changed last.
func (r *Ramp) byTime(now time.Time, o RampOptions) (withheld float64, at time.Time) {
	if r.back.IsZero() {
		return 0, time.Time{}
	}
	start := r.back.Add(r.hold(o))
	if now.Before(start) {
		return 1, start
	}
	if o.Interval <= 0 || o.Step <= 0 {
		return 0, start
	}
	steps := now.Sub(start)/o.Interval + 1
	withheld = 1 - float64(steps)*o.Step
	if withheld < 1e-9 { // ten steps of 0.1 do not quite sum to 1
		return 0, start.Add(time.Duration(math.Ceil(1/o.Step-1e-9)-1) * o.Interval)
	}
	return withheld, start.Add(steps * o.Interval)
}
