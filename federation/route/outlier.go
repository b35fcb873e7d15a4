package route

import (
	"math"
	"time"
)

// OutlierOptions are the parameters of outlier detection; the zero value means
// DefaultOutliers'.
type OutlierOptions struct {
	// Interval is the time between two looks, spread by up to Jitter of it, both ways;
	// a look is at the calls of Window.
	Interval time.Duration
	Jitter   float64
	Window   time.Duration
	// MinCalls of a window are what a member needs to be judged, and the others to be
	// compared with, together.
	MinCalls uint64
	// Gap is how much more of its calls, 0 to 1, an outlier must fail than the others.
	Gap float64
	// Sigma is how many standard deviations that must be off chance.
	Sigma float64
	// Most is the share of failed calls that is enough where the others have too few to
	// compare with: nobody repeats there what has failed here.
	Most float64
	// Lasting is how long calls must have failed before all of them leave a cluster for
	// it: one of its endpoints may just have died, which its health checks find sooner.
	Lasting time.Duration
	// MaxShare is the most of the members that may be ejected at once; one always may.
	MaxShare float64
}

// DefaultOutliers looks every 2 s at 10 s. The share of Envoy's outlier detection (10 %,
// but one). Its test, below the mean by 1.9 standard deviations of the members' rates,
// needs five of them with 100 calls each; most services in most clusters have fewer.
// Ours asks of two and more whether chance explains how much more of its calls one
// fails than the others together.
func DefaultOutliers() OutlierOptions {
	return OutlierOptions{
		Interval: 2 * time.Second, Jitter: 0.2, Window: 10 * time.Second,
		MinCalls: 20, Gap: 0.05, Sigma: 4, Most: 0.5, Lasting: 3 * time.Second, MaxShare: 0.1,
	}
}

// Room reports whether one more of total members may be ejected as an outlier while
// ejected of them already are, for whatever reason.
func (o OutlierOptions) Room(ejected, total int) bool {
	return ejected == 0 || float64(ejected+1) <= o.MaxShare*float64(total)
}

// Next is the time from one look to the next: jittered, so that gateways do not act in
// step.
func (o OutlierOptions) Next(random uint64) time.Duration {
	u := float64(random>>11) / (1 << 53) // [0, 1)
	return time.Duration(float64(o.Interval) * (1 + o.Jitter*(2*u-1)))
}

// Standing is what the calls of a window say of one of several members that serve
// alike.
type Standing struct {
	Calls, Failures uint64
	// Ejected members are not judged, nor compared with.
	Ejected bool
	// Trial: it is on its way back by a Ramp, and half of the certainty is enough.
	Trial bool
}

func (s Standing) rate() float64 { return float64(s.Failures) / float64(max(s.Calls, 1)) }

// Outlier returns the worst of those that fail more of their calls than the others, by
// more than chance; false if there is none. What all of them have, their callers, the
// network or what they all rest on, makes nobody an outlier.
func (o OutlierOptions) Outlier(members []Standing) (worst int, found bool) {
	var calls, failures uint64
	for _, m := range members {
		if !m.Ejected {
			calls, failures = calls+m.Calls, failures+m.Failures
		}
	}
	most := 0.0
	for i, m := range members {
		others := Standing{Calls: calls - m.Calls, Failures: failures - m.Failures}
		if m.Ejected || m.Calls < o.least(m) || len(members) < 2 {
			continue
		}
		gap, need := m.rate()-others.rate(), o.Sigma
		if m.Trial {
			need /= 2
		}
		is := gap >= o.Gap && surprise(m, others) >= need
		if others.Calls < o.MinCalls {
			gap = m.rate()
			is = gap >= o.Most
		}
		if is && gap > most {
			worst, most, found = i, gap, true
		}
	}
	return worst, found
}

// surprise is how many standard deviations a and b are apart, if all that they differ by
// is chance: the root of the G-test's statistic. Unlike the difference of the rates over
// their deviation it holds where one has few calls, or hardly any that failed.
func surprise(a, b Standing) float64 {
	calls, failures := float64(a.Calls+b.Calls), float64(a.Failures+b.Failures)
	g := 0.0
	for _, m := range [...]Standing{a, b} {
		for _, part := range [...]struct{ seen, all float64 }{
			{float64(m.Failures), failures}, {float64(m.Calls - m.Failures), calls - failures},
		} {
			if part.seen > 0 {
				g += part.seen * math.Log(part.seen*calls/(part.all*float64(m.Calls)))
			}
		}
	}
	return math.Sqrt(max(0, 2*g))
}

// least is how many calls a member needs to be judged.
func (o OutlierOptions) least(m Standing) uint64 {
	if m.Trial {
		return o.MinCalls / 4
	}
	return o.MinCalls
}
