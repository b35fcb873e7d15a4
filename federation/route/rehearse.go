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
	// Class is that of the rehearsal's.
	Class int
	// Share is 0 to 1, InPanic the part of all that was chosen without regard to
	// health.
	Share, InPanic float64
	// Took is how long those calls took, by what a call there takes.
	Took time.Duration
	// Price is what a GB of them costs, on average; not known if it is of any of them.
	Price Price
}

// Class is a part of a rehearsal's calls that is of one priority.
type Class struct {
	Priority Priority
	// Weight is its part of the calls, against the sum over classes.
	Weight float64
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
	// Warm is how many calls go before those that are told: as many as are in flight
	// once it has settled.
	Warm int
	// Classes split the calls, evenly over time; without any they are of the request's
	// priority.
	Classes []Class
}

// classes says which class each call is of: the one that is furthest behind its part.
type classes struct {
	of  []Class
	got []float64
}

func (c *classes) next() int {
	best := 0
	for i := range c.of {
		c.got[i] += bounded(c.of[i].Weight)
		if c.got[i] > c.got[best] {
			best = i
		}
	}
	if len(c.of) > 0 {
		sum := 0.0
		for i := range c.of {
			sum += bounded(c.of[i].Weight)
		}
		c.got[best] -= sum
	}
	return best
}

// Rehearse decides about a series of calls as they would come, each beginning and
// ending in the plan's own counters, and says where they went. The points at which
// tiers are drawn are spread evenly (a golden-ratio sequence), so that the split
// between tiers is exact to one call; what depends on latencies and calls in flight
// comes about as it does in a gateway.
func (p *Plan) Rehearse(r Rehearsal) []Part {
	type place struct {
		cluster catalog.ClusterName
		status  Status
		class   int
	}
	parts := make(map[place]*tally)
	var order []place
	kinds := classes{of: r.Classes, got: make([]float64, len(r.Classes))}
	var open endings
	now := r.NowNanos
	tried := r.Tried
	for i := range r.Warm + r.Calls {
		for len(open) > 0 && open[0].at <= now {
			heap.Pop(&open).(*ending).end()
		}
		req := r.Request
		req.Tried, req.NowNanos = tried, now
		req.Random = unmix(r.Seed*spread+uint64(i)*golden) - splitMixStep
		class := kinds.next()
		if len(r.Classes) > 0 {
			req.Priority = r.Classes[class].Priority
		}
		c, _ := p.Pick(&req)
		key := place{c.Target.Cluster, c.Status, class}
		t := parts[key]
		if t == nil && i >= r.Warm {
			t = &tally{price: Price{Known: true}}
			parts[key] = t
			order = append(order, key)
		}
		if t == nil {
			t = new(tally) // of nobody: it is not told
		}
		t.calls++
		if c.Status == OK {
			took := max(r.Took(c.Target), time.Microsecond)
			t.add(&c, took)
			c.Counters.Begin(now)
			if c.EndpointCounters != nil {
				c.EndpointCounters.Begin(now)
			}
			if c.ZoneCounters != nil {
				c.ZoneCounters.Begin(now)
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
		x := Part{
			Cluster: key.cluster, Status: key.status, Class: key.class,
			Share: float64(t.calls) / float64(r.Calls), InPanic: float64(t.panics) / float64(r.Calls),
		}
		if x.Status == OK {
			n := float64(t.calls)
			x.Took, x.Price = t.took/time.Duration(t.calls), Price{t.price.Out / n, t.price.In / n, t.price.Known}
		}
		out = append(out, x)
	}
	return out
}

type tally struct {
	calls, panics int
	took          time.Duration
	price         Price // the sum
}

func (t *tally) add(c *Choice, took time.Duration) {
	t.took += took
	if c.Mode == Panic || c.Mode == SuspectSelf {
		t.panics++
	}
	p := c.Price()
	t.price.Out, t.price.In, t.price.Known = t.price.Out+p.Out, t.price.In+p.In, t.price.Known && p.Known
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
	if e.choice.ZoneCounters != nil {
		e.choice.ZoneCounters.End(e.at, e.took, true)
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
