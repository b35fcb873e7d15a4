package spare_test

import (
	"fmt"
	"math"
	"os"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/route"
)

// mixOf is the calls of a region of which a part is critical; of the rest, three in five
// are default.
func mixOf(critical float64) route.ByPriority {
	return route.ByPriority{route.PriorityCritical: critical, route.PriorityDefault: 0.6 * (1 - critical), route.PriorityLow: 0.4 * (1 - critical)}
}

// at80 is the rate that loads a region of a size to 80 %.
func at80(size int) float64 { return 0.8 * float64(size) / takes.Seconds() }

// lost is what a loss did to the others.
type lost struct {
	success [route.Priorities]float64
	early   float64               // of critical calls, in the first 5 s
	peak    float64               // of what a region takes
	low     float64               // mean of a second, the lowest of those from 8 s on
	spread  float64               // of these means, of what a region takes
	first   [route.Priorities]int // that failed before the loss
	refused int
	frames  int
}

// Ways to lose a region: it is gone as a whole and its callers come to the other two, or
// its instances die, or half of them, and its gateways send their callers elsewhere.
const (
	allOfIt      = "all of it"
	instancesDie = "instances"
	halfOfThem   = "half of the instances"
)

// lose loads three regions to 80 % and loses one.
func lose(t *testing.T, what string, seed uint64, size int, critical float64) (l lost) {
	w := newWorld(t, seed, instances, size/instances)
	mix, rate := mixOf(critical), at80(size)
	rates := [regions]float64{rate, rate, rate}
	w.beat()
	for r := range regions {
		w.callers(r, func() float64 { return rates[r] }, mix)
	}
	w.run(12 * time.Second)
	l.first = w.failed
	w.forget()
	switch what {
	case instancesDie:
		w.die(2, 0, instances)
	case halfOfThem:
		w.die(2, 0, instances/2)
	default:
		w.vanish(2)
		rates = [regions]float64{1.5 * rate, 1.5 * rate, 0}
	}
	l.low = math.Inf(1)
	var high float64
	for second := range 24 {
		w.run(time.Second)
		if second == 4 {
			l.early = w.success(route.PriorityCritical)
		}
		for r := range 2 {
			load := float64(w.load(r, time.Second)) / float64(size)
			if second >= 8 {
				l.low, high = min(l.low, load), max(high, load)
			}
		}
	}
	for p := range l.success {
		l.success[p] = w.success(route.Priority(p))
	}
	for r := range 2 {
		l.peak = max(l.peak, float64(w.peak[r])/float64(size))
	}
	l.spread, l.refused, l.frames = high-l.low, w.refused, w.frames
	return l
}

// One of three regions is lost while all are loaded to 80 %. The survivors stay below
// 100 % at every moment and carry what they can, calls of high priority do not notice, and
// the lowest go first: where all of it is lost, so that its callers come elsewhere, and
// where instances die, so that its callers stay behind gateways that use what the others
// grant.
//
// ISTHMUS_SURVIVE=full is 20 seeds of every size and part; a plain run takes one of some.
func TestARegionIsLostAt80Percent(t *testing.T) {
	seeds := uint64(1)
	sizes, parts := []int{200}, []float64{0.05, 0.3}
	if os.Getenv("ISTHMUS_SURVIVE") == "full" {
		seeds, sizes, parts = 20, []int{200, 500, 2000}, []float64{0.05, 0.15, 0.3}
	}
	for _, what := range []string{allOfIt, instancesDie, halfOfThem} {
		for _, size := range sizes {
			for _, critical := range parts {
				t.Run(fmt.Sprintf("%s/%d/%.0f%%", what, size, 100*critical), func(t *testing.T) {
					var sum, worst lost
					worst.low, worst.early = math.Inf(1), 1
					for p := range worst.success {
						worst.success[p] = 1
					}
					for seed := range seeds {
						l := lose(t, what, seed+1, size, critical)
						for p := range l.success {
							sum.success[p] += l.success[p] / float64(seeds)
							worst.success[p] = min(worst.success[p], l.success[p])
						}
						worst.peak, worst.low, worst.spread, worst.early = max(worst.peak, l.peak), min(worst.low, l.low), max(worst.spread, l.spread), min(worst.early, l.early)
						sum.refused += l.refused
						switch {
						case l.peak >= 1:
							t.Errorf("seed %d: a survivor was loaded to %.1f %%", seed+1, 100*l.peak)
						case l.first[route.PriorityCritical] > 0:
							t.Errorf("seed %d: %d critical calls failed before anything was lost", seed+1, l.first[route.PriorityCritical])
						case l.success[route.PriorityCritical] < l.success[route.PriorityDefault]:
							t.Errorf("seed %d: success %.3f", seed+1, l.success)
						case l.success[route.PriorityCritical] < 0.999 || l.success[route.PriorityDefault] < l.success[route.PriorityLow] || what == allOfIt && l.low < 0.75 || what == instancesDie && l.low < 0.7:
							t.Errorf("seed %d: success %.4f, load %.3f at least while calls are shed", seed+1, l.success, l.low)
						}
					}
					t.Logf("figure: lost %s of one of three regions of %d calls at 80 %%, %.0f %% critical, %d seeds: success %.4f %% critical (worst seed %.4f %%, in the first 5 s %.4f %%), %.1f %% default, %.1f %% low; survivors peak at %.1f %%, then carry %.1f %% at least, within %.1f %%; %d refused by far gateways",
						what, size, 100*critical, seeds, 100*sum.success[route.PriorityCritical], 100*worst.success[route.PriorityCritical], 100*worst.early,
						100*sum.success[route.PriorityDefault], 100*sum.success[route.PriorityLow], 100*worst.peak, 100*worst.low, 100*worst.spread, sum.refused)
				})
			}
		}
	}
}

// waste is what happens to callers while instances die one after the other.
type waste struct {
	success [route.Priorities]float64 // until all of a region's are dead
	then    float64                   // of critical calls, since one more is dead
	peak    float64                   // of what the region takes that lost none
}

// dwindle loads three small regions to 80 %; then one instance dies every 6 s, all of the
// last region's and one of the next.
func dwindle(t *testing.T, seed uint64, count, each int, critical float64) (x waste) {
	w := newWorld(t, seed, count, each)
	rate := at80(count * each)
	w.beat()
	for r := range regions {
		w.callers(r, func() float64 { return rate }, mixOf(critical))
	}
	w.run(12 * time.Second)
	w.forget()
	for gone := range count {
		w.die(2, gone, gone+1)
		w.run(6 * time.Second)
	}
	for p := range x.success {
		x.success[p] = w.success(route.Priority(p))
	}
	peak := w.peak[0]
	w.forget()
	w.die(1, 0, 1)
	w.run(12 * time.Second)
	x.then = w.success(route.PriorityCritical)
	x.peak = float64(max(peak, w.peak[0])) / float64(count*each)
	return x
}

// All instances of one of three small regions die one by one, in the smallest case two: the
// critical calls are served, from the moment on at which gateways know of a death, and the
// region that keeps its instances is not overloaded. Then one of another region's dies,
// which of regions of two is half of all: with 30 % critical the four gateways have 57 slots
// left for 29 critical calls, in parts of a few, of which more are not in use than one would
// have of them all; of this only most is asserted.
func TestInstancesDieOneByOneInSmallRegions(t *testing.T) {
	seeds := uint64(2)
	counts, parts := []int{2, 5}, []float64{0.3}
	if os.Getenv("ISTHMUS_SURVIVE") == "full" {
		seeds, counts, parts = 20, []int{2, 3, 4, 5}, []float64{0.05, 0.15, 0.3}
	}
	const each = 20
	for _, count := range counts {
		for _, critical := range parts {
			t.Run(fmt.Sprintf("%d/%.0f%%", count, 100*critical), func(t *testing.T) {
				var sum waste
				worst, then := 1.0, 0.0
				for seed := range seeds {
					x := dwindle(t, seed+1, count, each, critical)
					for p := range x.success {
						sum.success[p] += x.success[p] / float64(seeds)
					}
					then += x.then / float64(seeds)
					worst, sum.peak = min(worst, x.success[route.PriorityCritical]), max(sum.peak, x.peak)
					if x.peak >= 1 {
						t.Errorf("seed %d: a region that lost nothing was loaded to %.1f %%", seed+1, 100*x.peak)
					}
					if x.success[route.PriorityDefault] < x.success[route.PriorityLow] {
						t.Errorf("seed %d: success %.4f", seed+1, x.success)
					}
				}
				if c := sum.success[route.PriorityCritical]; c < 0.999 {
					t.Errorf("%.3f %% of the critical calls were served", 100*c)
				}
				if then < 0.99 || count > 2 && then < 0.999 {
					t.Errorf("%.3f %% of the critical calls were served when one more was dead", 100*then)
				}
				t.Logf("figure: three regions of %d instances of %d calls at 80 %%, %.0f %% critical, all of one region's die one by one, %d seeds: success %.4f %% critical (worst seed %.4f %%), %.1f %% default, %.1f %% low, and of critical calls when one of another region's is dead too %.4f %%; the third peaks at %.1f %%",
					count, each, 100*critical, seeds, 100*sum.success[route.PriorityCritical], 100*worst, 100*sum.success[route.PriorityDefault], 100*sum.success[route.PriorityLow], 100*then, 100*sum.peak)
			})
		}
	}
}
