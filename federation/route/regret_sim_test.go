package route_test

import (
	"cmp"
	"container/heap"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// What follows is a small model of links and services, apart from the code that is
// judged by it: a link is a round trip and a queue of bytes in each direction, a
// cluster a number of servers with one queue. Others call the clusters too.

// site is one cluster as it is at a time.
type site struct {
	name       catalog.ClusterName
	rtt        func(at float64) float64 // seconds
	out, in    func(at float64) float64 // bytes per second
	processing func(at float64) float64 // seconds, the mean
	servers    int
	others     float64  // calls per second of other callers
	recorded   []demand // theirs, where they are recorded
}

// siteState is what is in progress there.
type siteState struct {
	site
	freeOut      float64   // when the link has sent what it has
	back         []span    // when answers occupy the link back, in order
	busy         []float64 // until when, each server
	forecast     route.Forecast
	known        struct{ out, in float64 } // measured by bulk
	theirs, ours []float64                 // ends of calls that arrived
	load         float64                   // the mean of what others have there, as it is told
	next         int                       // of recorded
	jobs         []job                     // in progress
}

// request is one call: when, how large, and how heavy.
type demand struct{ at, out, in, weight float64 }

// outcome is when the parts of a call are over.
type outcome struct{ arrived, begun, processed, first, whole float64 }

type span struct{ begin, end float64 }

// answer is when an answer that is ready at a time has been sent: answers go in the order
// in which they are ready, not in that of the calls.
func (s *siteState) answer(ready, took float64) float64 {
	for _, x := range s.back {
		if ready+took <= x.begin {
			break
		}
		ready = max(ready, x.end)
	}
	return ready + took
}

// serve is what a call would take; the state is not changed.
func (s *siteState) serve(d demand) (o outcome, server int) {
	half := s.rtt(d.at) / 2
	o.arrived = max(d.at, s.freeOut) + d.out/s.out(d.at) + half
	for i, b := range s.busy {
		if b < s.busy[server] {
			server = i
		}
	}
	o.begun = max(o.arrived, s.busy[server])
	o.processed = o.begun + d.weight*s.processing(o.begun)
	o.first = o.processed + half
	o.whole = s.answer(o.processed, d.in/s.in(d.at)) + half
	return o, server
}

func (s *siteState) take(d demand) outcome {
	o, server := s.serve(d)
	s.busy[server] = o.processed
	sends := max(d.at, s.freeOut)
	s.freeOut = sends + d.out/s.out(d.at)
	took := d.in / s.in(d.at)
	end := s.answer(o.processed, took)
	s.back = slices.DeleteFunc(s.back, func(x span) bool { return x.end < d.at })
	at, _ := slices.BinarySearchFunc(s.back, end, func(x span, t float64) int { return cmp.Compare(x.end, t) })
	s.back = slices.Insert(s.back, at, span{end - took, end})
	s.ours = append(s.ours, o.processed)
	s.jobs = append(s.jobs, job{sends, s.freeOut, o.arrived, o.begun, o.processed, span{end - took, end}, server, true})
	const bulk = 64 << 10 // what fills a link for long enough to be a sample
	if d.out > bulk {
		s.known.out = s.out(d.at)
	}
	if d.in > bulk {
		s.known.in = s.in(d.at)
	}
	return o
}

// background lets the other callers do what they do until at.
func (s *siteState) background(from, at float64, rnd *rand.Rand) {
	for ; s.next < len(s.recorded) && s.recorded[s.next].at < at; s.next++ {
		s.takeOthers(s.recorded[s.next].at, s.recorded[s.next].weight)
	}
	if s.others == 0 {
		return
	}
	for t := from + rnd.ExpFloat64()/s.others; t < at; t += rnd.ExpFloat64() / s.others {
		s.takeOthers(t, weight(rnd))
	}
}

// takeOthers serves a call of another caller.
func (s *siteState) takeOthers(t, weight float64) {
	server := 0
	for i, b := range s.busy {
		if b < s.busy[server] {
			server = i
		}
	}
	begun := max(t, s.busy[server])
	took := weight * s.processing(begun)
	s.busy[server] = begun + took
	s.jobs = append(s.jobs, job{arrived: t, begun: begun, processed: begun + took, server: server})
	inside := s.inside(t)
	s.theirs = append(s.theirs, begun+took)
	s.processed(begun+took, begun+took-t, inside)
}

// processed is what the far gateway measures.
func (s *siteState) processed(at, took float64, inside int) {
	s.forecast.Processed(nanos(at), time.Duration(took*1e9), int64(inside+1), float64(s.servers))
}

// inside is how many calls are at the service.
func (s *siteState) inside(at float64) int {
	n := 0
	for _, list := range []*[]float64{&s.theirs, &s.ours} {
		kept := (*list)[:0]
		for _, end := range *list {
			if end > at {
				kept = append(kept, end)
			}
		}
		*list = kept
		n += len(kept)
	}
	return n
}

func nanos(at float64) int64 { return epoch.Add(time.Duration(at * 1e9)).UnixNano() }

// weight is how heavy a call is, in means: log-normal.
func weight(rnd *rand.Rand) float64 {
	const sigma = 0.3
	return math.Exp(sigma*rnd.NormFloat64() - sigma*sigma/2)
}

// heavy is a size with a heavy tail: Pareto of shape 1.2, bounded.
func heavy(rnd *rand.Rand, least, most float64) float64 {
	return min(most, least*math.Pow(1-rnd.Float64(), -1/1.2))
}

// scene is a set of clusters and who calls them.
type scene struct {
	name    string
	sites   []site
	rate    float64 // our calls per second
	seconds float64
	out, in func(*rand.Rand) float64
	unsized bool     // requests do not say their size
	calls   []demand // where they are recorded
}

// demands are the calls of a scene.
func (sc *scene) demands(rnd *rand.Rand) iter.Seq[demand] {
	if sc.calls != nil {
		return slices.Values(sc.calls)
	}
	return func(yield func(demand) bool) {
		for at := rnd.ExpFloat64() / sc.rate; at < sc.seconds; at += rnd.ExpFloat64() / sc.rate {
			if !yield(demand{at: at, out: sc.out(rnd), in: sc.in(rnd), weight: weight(rnd)}) {
				return
			}
		}
	}
}

// means are those of a scene's calls.
func (sc *scene) means(seed uint64) (m demand) {
	n := 0.0
	for d := range sc.demands(rand.New(rand.NewPCG(seed, 1))) {
		m.out, m.in, m.weight, n = m.out+d.out, m.in+d.in, m.weight+d.weight, n+1
	}
	m.out, m.in, m.weight = m.out/n, m.in/n, m.weight/n
	return m
}

// chooser is what is judged. begin and end are of the chosen one.
type chooser interface {
	pick(now int64, d demand, states []*siteState) int
	end(i int, now int64, first, whole time.Duration, d demand)
	refresh(now float64, states []*siteState)
}

// verdict is what a chooser made of a scene.
type verdict struct {
	regret float64 // of the best in the same state, in parts of it
	// blind is what of it no chooser can avoid that does not know what a call will turn
	// out to be, but all else: the regret of the best choice for a call of mean size and
	// weight, in the same states.
	blind float64
	// online is the same of the best choice by what has happened (see expect).
	online      float64
	mean, worst float64
	shares      []float64
}

type finish struct {
	at          float64
	site        int
	first, full time.Duration
	d           demand
}

type finishes []finish

func (f finishes) Len() int           { return len(f) }
func (f finishes) Less(i, k int) bool { return f[i].at < f[k].at }
func (f finishes) Swap(i, k int)      { f[i], f[k] = f[k], f[i] }
func (f *finishes) Push(x any)        { *f = append(*f, x.(finish)) }
func (f *finishes) Pop() any {
	old := *f
	x := old[len(old)-1]
	*f = old[:len(old)-1]
	return x
}

// run plays a scene with a chooser. The calls and what they weigh are the same for
// every chooser.
func (sc *scene) run(seed uint64, c chooser) verdict {
	rnd, noise := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2))
	states := make([]*siteState, len(sc.sites))
	for i := range sc.sites {
		states[i] = &siteState{site: sc.sites[i], busy: make([]float64, sc.sites[i].servers)}
	}
	var open finishes
	var best, blind, online, got, calls float64
	mean := sc.means(seed)
	var before *prior // of recorded calls only: it costs more than all else
	if sc.calls != nil {
		before = sc.prior(seed, mean)
	}
	v := verdict{shares: make([]float64, len(states))}
	last, told := 0.0, -1.0
	for d := range sc.demands(rnd) {
		at := d.at
		for len(open) > 0 && open[0].at <= at {
			f := heap.Pop(&open).(finish)
			c.end(f.site, nanos(f.at), f.first, f.full, f.d)
		}
		for _, s := range states {
			s.background(last, at, noise)
		}
		last = at
		if at-told >= 1 {
			c.refresh(at, states)
			told = at
		}
		least, ofMean, bet := math.Inf(1), math.Inf(1), 0.0
		expected, guess := math.Inf(1), 0.0
		for i, s := range states {
			o, _ := s.serve(d)
			if before != nil {
				if e := s.expect(i, d, before); e < expected {
					expected, guess = e, o.whole-at
				}
			}
			least = min(least, o.whole-at)
			known := demand{at: at, out: mean.out, in: mean.in, weight: mean.weight}
			if !sc.unsized {
				known.out = d.out
			}
			if m, _ := s.serve(known); m.whole < ofMean {
				ofMean, bet = m.whole, o.whole-at
			}
		}
		blind, online = blind+bet, online+guess
		i := c.pick(nanos(at), d, states)
		inside := states[i].inside(at)
		o := states[i].take(d)
		states[i].processed(o.processed, o.processed-o.arrived, inside)
		heap.Push(&open, finish{at: o.whole, site: i, first: time.Duration((o.first - at) * 1e9), full: time.Duration((o.whole - at) * 1e9), d: d})
		best, got, calls = best+least, got+o.whole-at, calls+1
		v.worst = max(v.worst, o.whole-at)
		v.shares[i]++
	}
	v.regret, v.blind, v.online, v.mean = (got-best)/best, (blind-best)/best, (online-best)/best, got/calls
	for i := range v.shares {
		v.shares[i] /= calls
	}
	return v
}
