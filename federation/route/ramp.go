package route

import "time"

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

// Ramp brings the load of a target (or of a whole cluster, after its links came
// back) back step by step: nothing for Hold, then Step more at the start of each
// Interval. The zero value is a target in full service: one that was never out
// needs no ramp. It is pure: it holds no clock and no lock.
//
// What it holds back goes to where else the call can go; if there is nowhere,
// Compile ignores it.
type Ramp struct {
	out  bool
	back time.Time
}

// Out records that the target left service (ejected, nothing ready, links
// down). It also aborts a ramp under way: the next one begins anew.
func (r *Ramp) Out() { r.out, r.back = true, time.Time{} }

// Back records that it is in service again since now; only the first call
// after Out counts.
func (r *Ramp) Back(now time.Time) {
	if r.out {
		r.out, r.back = false, now
	}
}

// Withheld is the part of the load, 0 to 1, to hold back at now: the value for
// LinkEvidence.Withheld and TargetEvidence.Withheld. next is when it changes,
// zero if it does not by itself. A target that is out withholds nothing: what
// put it out excludes it already.
func (r *Ramp) Withheld(now time.Time, o RampOptions) (withheld float64, next time.Time) {
	if r.back.IsZero() {
		return 0, time.Time{}
	}
	if o == (RampOptions{}) {
		o = DefaultRamp()
	}
	start := r.back.Add(o.Hold)
	if now.Before(start) {
		return 1, start
	}
	if o.Interval <= 0 || o.Step <= 0 {
		return 0, time.Time{}
	}
	steps := now.Sub(start)/o.Interval + 1
	withheld = 1 - float64(steps)*o.Step
	if withheld < 1e-9 { // ten steps of 0.1 do not quite sum to 1
		return 0, time.Time{}
	}
	return withheld, start.Add(steps * o.Interval)
}
