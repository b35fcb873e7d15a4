package gradient_test

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/flow/gradient"
	"pgregory.net/rapid"
)

// service is an M/M/c service on a clock of its own: c workers, a first come first
// served queue before them, and a limit that refuses what is above it.
type service struct {
	workers  int
	mean     time.Duration
	random   *rand.Rand
	now      int64
	progress int
	free     []int64 // when each worker is free
	ends     ends
	answered []time.Duration
	refused  int
	spread   bool // exponential service times
}

type end struct{ at, began int64 }

type ends []end

func (e ends) Len() int           { return len(e) }
func (e ends) Less(i, j int) bool { return e[i].at < e[j].at }
func (e ends) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *ends) Push(x any)        { *e = append(*e, x.(end)) }
func (e *ends) Pop() any {
	old := *e
	last := old[len(old)-1]
	*e = old[:len(old)-1]
	return last
}

func newService(workers int, mean time.Duration, spread bool, seed uint64) *service {
	s := &service{workers: workers, mean: mean, random: rand.New(rand.NewPCG(seed, 1)), now: 1e18, spread: spread, free: make([]int64, workers)}
	return s
}

// run offers rate calls a second for length.
func (s *service) run(c *gradient.Controller, rate float64, length time.Duration) {
	s.answered, s.refused = nil, 0
	stop := s.now + int64(length)
	for {
		next := s.now + int64(s.random.ExpFloat64()/rate*float64(time.Second))
		for len(s.ends) > 0 && s.ends[0].at <= min(next, stop) {
			e := heap.Pop(&s.ends).(end)
			s.now = e.at
			took := time.Duration(e.at - e.began)
			s.answered = append(s.answered, took)
			c.Sample(e.at, took, s.progress)
			s.progress--
		}
		if next >= stop {
			s.now = stop
			return
		}
		if s.now = next; s.progress >= c.Limit() {
			s.refused++
			continue
		}
		s.progress++
		worker := 0
		for i := range s.free {
			if s.free[i] < s.free[worker] {
				worker = i
			}
		}
		takes := int64(float64(s.mean) * (0.9 + 0.2*s.random.Float64()))
		if s.spread {
			takes = int64(s.random.ExpFloat64() * float64(s.mean))
		}
		s.free[worker] = max(s.free[worker], s.now) + takes
		heap.Push(&s.ends, end{at: s.free[worker], began: s.now})
	}
}

// settled is where the law has its rest for c workers.
func settled(workers int) float64 {
	limit := float64(workers)
	for range 100 {
		limit = (1+gradient.Buffer)*float64(workers) + math.Sqrt(limit)
	}
	return limit
}

// TestConverges: from above and from below, the limit comes to what the workers can do
// without a queue and the little that the law adds, and what is admitted is nearly all
// that can be served.
func TestConverges(t *testing.T) {
	for _, spread := range []bool{false, true} {
		for _, workers := range []int{8, 40, 150} {
			s := newService(workers, 50*time.Millisecond, spread, 1)
			c := gradient.New(gradient.Options{})
			can := float64(workers) / s.mean.Seconds()
			s.run(c, 0.3*can, 10*time.Second) // learns what an unloaded request takes
			for _, from := range []string{"below", "above"} {
				if from == "above" {
					// Twice as many workers for a while lift it.
					s.workers, s.free = 2*workers, append(s.free, s.free...)
					s.run(c, 3*can, 30*time.Second)
					s.workers, s.free = workers, s.free[:workers]
				}
				s.run(c, 2*can, 30*time.Second) // with most of the first measurements
				s.run(c, 2*can, 20*time.Second)
				want, got := settled(workers), float64(c.Limit())
				goodput := float64(len(s.answered)) / 20 / can
				t.Logf("figure: %d workers (spread %v) from %s: limit %v, rest of the law %.0f, goodput %.3f, median %v of %v", workers, spread, from, got, want, goodput, median(s.answered), s.mean)
				if got < float64(workers) || got > 1.5*want {
					t.Errorf("%d workers from %s: limit %v, want %d to %.0f", workers, from, got, workers, 1.5*want)
				}
				if goodput < 0.93 { // one measurement of a second is in it
					t.Errorf("%d workers from %s: goodput %.3f of what can be served", workers, from, goodput)
				}
			}
		}
	}
}

func median(d []time.Duration) time.Duration {
	s := slices.Clone(d)
	slices.Sort(s)
	return s[len(s)/2]
}

// TestIdleServiceRefusesNobody: an hour of a call now and then, of all speeds, refuses
// none, not even while it is measured; and the limit does not grow without a use.
func TestIdleServiceRefusesNobody(t *testing.T) {
	s := newService(10, 20*time.Millisecond, true, 2)
	c := gradient.New(gradient.Options{Random: rand.New(rand.NewPCG(3, 4)).Uint64})
	s.run(c, 5, time.Hour)
	if s.refused > 0 {
		t.Errorf("%d of %d calls are refused", s.refused, s.refused+len(s.answered))
	}
	if c.Limit() > 20 {
		t.Errorf("the limit grew to %d by itself", c.Limit())
	}
}

// TestFollowsAServiceThatBecomesSlower: for good, not because of load: what an unloaded
// request takes is measured anew, and the limit does not stay on the floor.
func TestFollowsAServiceThatBecomesSlower(t *testing.T) {
	s := newService(40, 20*time.Millisecond, false, 5)
	c := gradient.New(gradient.Options{})
	s.run(c, 1500, 20*time.Second)
	s.mean = 60 * time.Millisecond
	s.run(c, 1500, 5*time.Minute)
	s.run(c, 1500, 20*time.Second)
	can := 40 / s.mean.Seconds()
	if goodput := float64(len(s.answered)) / 20 / can; goodput < 0.95 {
		t.Errorf("goodput %.3f of what can be served, limit %d, unloaded %v", goodput, c.Limit(), c.Unloaded())
	}
	if c.Unloaded() < 50*time.Millisecond {
		t.Errorf("unloaded %v after it became 60 ms", c.Unloaded())
	}
}

// TestStaysInItsBounds whatever is sampled, and allocates nothing.
func TestStaysInItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := gradient.Options{Floor: rapid.IntRange(1, 50).Draw(t, "floor"), Max: rapid.IntRange(1, 200).Draw(t, "max")}
		c := gradient.New(o)
		now := int64(1e18)
		for range rapid.IntRange(1, 500).Draw(t, "samples") {
			now += rapid.Int64Range(-int64(time.Second), int64(50*time.Millisecond)).Draw(t, "gap")
			c.Sample(now, time.Duration(rapid.Int64Range(-5, int64(10*time.Second)).Draw(t, "took")), rapid.IntRange(0, 1000).Draw(t, "in progress"))
			if n := c.Limit(); n < o.Floor || n > max(o.Max, o.Floor) {
				t.Fatalf("limit %d, floor %d, max %d", n, o.Floor, o.Max)
			}
		}
	})
	c, now := gradient.New(gradient.Options{}), int64(1e18)
	if n := testing.AllocsPerRun(2000, func() {
		now += int64(time.Millisecond)
		c.Sample(now, time.Millisecond, 5)
	}); n != 0 {
		t.Errorf("%v allocations a sample", n)
	}
}
