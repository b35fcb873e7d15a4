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

// Two ways to lose a region: its instances die and its gateways send their callers
// elsewhere, or it is gone as a whole and its callers come to the other two.
const (
	instancesDie = "instances"
	allOfIt      = "all of it"
)

// lose loads three regions to 80 % and loses one.
func lose(t *testing.T, what string, seed uint64, size int, critical float64) (l lost) {
	w := newWorld(t, seed, size)
	mix, rate := mixOf(critical), at80(size)
	rates := [regions]float64{rate, rate, rate}
	w.beat()
	for r := range regions {
		w.callers(r, func() float64 { return rates[r] }, mix)
	}
	w.run(12 * time.Second)
	l.first = w.failed
	w.forget()
	if what == instancesDie {
		w.die(2)
	} else {
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
// 100 % at every moment and carry what they can. Where all of it is lost, so that its
// callers come elsewhere, calls of high priority do not notice, and the lowest go first.
//
// Where only its instances die, its callers stay behind gateways that use what the others
// grant: what their own callers leave, whatever the priority of these is. That is 20 % of
// each less the margins, and the noise of arrivals is most of it in a small region. Critical
// calls then go first through it, and no more of them than fit: which is asserted no further.
//
// ISTHMUS_SURVIVE=full is 20 seeds of every size and part; a plain run takes one of some.
func TestARegionIsLostAt80Percent(t *testing.T) {
	seeds := uint64(1)
	sizes, parts := []int{200}, []float64{0.05, 0.3}
	if os.Getenv("ISTHMUS_SURVIVE") == "full" {
		seeds, sizes, parts = 20, []int{200, 500, 2000}, []float64{0.05, 0.15, 0.3}
	}
	for _, what := range []string{allOfIt, instancesDie} {
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
						case what == allOfIt && (l.success[route.PriorityCritical] < 0.999 || l.success[route.PriorityDefault] < l.success[route.PriorityLow] || l.low < 0.75):
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
