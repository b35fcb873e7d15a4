package drill

import "math"

// What the scores compare; see the package's documentation. Shares are of 1.
const (
	// Usual is the share of drilled calls that may be bad whatever others do, Worse that
	// which ends a drill, or WorseTimes what others show, if that is more.
	Usual      = 0.005
	Worse      = 0.05
	WorseTimes = 5
	// UsualOthers and WorseOthers are the same of undrilled calls.
	UsualOthers = 0.02
	WorseOthers = 0.10
	// mostWorse bounds what is looked for where others do badly, too.
	mostWorse = 0.9
	// recall is how many undrilled calls their share of bad ones is taken over, about.
	recall = 1000
)

// Limit is the score that ends a drill: a wrong end once in e^Limit calls.
var Limit = math.Log(1e6)

// score is a cumulative sum.
type score float64

// add takes one call, and reports whether the limit is reached.
func (s *score) add(bad bool, usual, worse float64) bool {
	if bad {
		*s += score(math.Log(worse / usual))
	} else {
		*s += score(math.Log((1 - worse) / (1 - usual)))
	}
	*s = max(*s, 0)
	return float64(*s) >= Limit
}

// rate is a share of bad calls that forgets.
type rate struct{ bad, all float64 }

func (r *rate) add(bad bool) {
	const keep = 1 - 1.0/recall
	r.bad, r.all = r.bad*keep, r.all*keep+1
	if bad {
		r.bad++
	}
}

func (r *rate) share() float64 {
	if r.all == 0 {
		return 0
	}
	return r.bad / r.all
}

// marks are what drilled calls are compared by, where others show a share of bad ones.
func marks(others float64) (usual, worse float64) {
	usual = min(max(Usual, others), mostWorse/WorseTimes)
	return usual, min(max(Worse, WorseTimes*usual), mostWorse)
}

// pair compares the calls of one port, or of all.
type pair struct {
	drilled, others score
	rate            rate
	answered        uint64
	took            int64 // nanoseconds of the undrilled that were answered
}

// mean is how long undrilled calls take, in nanoseconds.
func (p *pair) mean() int64 {
	if p.answered == 0 {
		return 0
	}
	return p.took / int64(p.answered)
}
