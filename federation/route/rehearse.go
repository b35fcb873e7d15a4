package route

import (
	"container/heap"
	"math/bits"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Part is how much of a rehearsal went to one place.
type Part struct {
	// Cluster is "" where the decision found nowhere to go: Status says why.
	Cluster catalog.ClusterName
	Status  Status
	// Share is 0 to 1, InPanic the part of all that was chosen without regard to
	// health.
	Share, InPanic float64
	// Took is how long those calls took, by what a call there takes.
	Took time.Duration
}

// Rehearsal is a series of calls that a plan decides about.
type Rehearsal struct {
	Request
	// Calls are made, one Every; took says how long one to a target takes, which
	// holds a place in flight meanwhile. The plan's counters are used up by it: they
	// are to be nobody else's.
	Calls int
	Every time.Duration
	Took  func(Target) time.Duration
	// Seed makes another series.
	Seed uint64
}

// Rehearse decides about a series of calls as they would come, each beginning and
// ending in the plan's own counters, and says where they went. The points at which
// tiers are drawn are spread evenly (a golden-ratio sequence), so that the split
// between tiers is exact to one call; what depends on latencies and calls in flight
// comes about as it does in a gateway.
func (p *Plan) Rehearse(r Rehearsal) []Part {
	parts := make(map[Part]*tally)
	var order []Part
	var open endings
	now := r.NowNanos
	tried := r.Tried
	for i := range r.Calls {
		for len(open) > 0 && open[0].at <= now {
			heap.Pop(&open).(*ending).end()
		}
		req := r.Request
		req.Tried, req.NowNanos = tried, now
		req.Random = unmix(r.Seed*spread+uint64(i)*golden) - splitMixStep
		c, _ := p.Pick(&req)
		key := Part{Cluster: c.Target.Cluster, Status: c.Status}
		t := parts[key]
		if t == nil {
			t = new(tally)
			parts[key] = t
			order = append(order, key)
		}
		t.calls++
		if c.Status == OK {
			took := max(r.Took(c.Target), time.Microsecond)
			t.took += took
			if c.Mode == Panic || c.Mode == SuspectSelf {
				t.panics++
			}
			c.Counters.Begin(now)
			if c.EndpointCounters != nil {
				c.EndpointCounters.Begin(now)
			}
			heap.Push(&open, &ending{at: now + int64(took), took: took, choice: c})
		}
		now += int64(max(r.Every, 1))
	}
	for _, e := range open {
		e.end()
	}
	out := make([]Part, 0, len(order))
	for _, key := range order {
		t := parts[key]
		key.Share, key.InPanic = float64(t.calls)/float64(r.Calls), float64(t.panics)/float64(r.Calls)
		if key.Status == OK {
			key.Took = t.took / time.Duration(t.calls)
		}
		out = append(out, key)
	}
	return out
}

type tally struct {
	calls, panics int
	took          time.Duration
}

// ending is a call in flight.
type ending struct {
	at     int64
	took   time.Duration
	choice Choice
}

func (e *ending) end() {
	e.choice.Counters.End(e.at, e.took, true)
	if e.choice.EndpointCounters != nil {
		e.choice.EndpointCounters.End(e.at, e.took, true)
	}
}

type endings []*ending

func (e endings) Len() int           { return len(e) }
func (e endings) Less(i, j int) bool { return e[i].at < e[j].at }
func (e endings) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *endings) Push(x any)        { *e = append(*e, x.(*ending)) }
func (e *endings) Pop() any {
	old := *e
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*e = old[:len(old)-1]
	return last
}

const (
	splitMixStep = 0x9e3779b97f4a7c15
	// golden spreads points evenly over 64 bits, spread makes series differ.
	golden = 0x9e3779b97f4a7c15
	spread = 0xd1342543de82ef95
)

// unmix is the state whose draw is z: SplitMix64's mixing, backwards.
func unmix(z uint64) uint64 {
	z ^= z>>31 ^ z>>62
	z *= inverse(0x94d049bb133111eb)
	z ^= z>>27 ^ z>>54
	z *= inverse(0xbf58476d1ce4e5b9)
	z ^= z>>30 ^ z>>60
	return z
}

// inverse of an odd number modulo 2^64, by Newton's iteration.
func inverse(a uint64) uint64 {
	x := a // right in 3 bits
	for range bits.Len(64) {
		x *= 2 - a*x
	}
	return x
}
