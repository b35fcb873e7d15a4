package route

import "time"

// RampOptions are the parameters of a fail-back.
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
// back) back step by step. The zero value is a target in full service: one that
// was never out needs no ramp. It is pure: it holds no clock and no lock.
type Ramp struct {
	out  bool
	back time.Time
}

// Out records that the target left service (ejected, nothing ready, links
// down). It also aborts a ramp under way.
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
// zero if it does not by itself.
func (r *Ramp) Withheld(now time.Time, o RampOptions) (withheld float64, next time.Time) {
	return 0, time.Time{}
}
