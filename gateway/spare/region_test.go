package spare_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/route"
)

// at80 is the rate that loads a region to 80 %.
const at80 = 0.8 * whole / (float64(takes) / float64(time.Second))

var mix = route.ByPriority{route.PriorityCritical: 0.15, route.PriorityDefault: 0.5, route.PriorityLow: 0.35}

// One of three regions is lost while all are loaded to 80 %. Either its instances die
// and its gateways send their callers elsewhere, or it is gone as a whole and its
// callers come to the other two. The survivors stay below 100 % at every moment, calls
// of high priority do not notice, and the lowest go first.
func TestARegionIsLostAt80Percent(t *testing.T) {
	for name, lose := range map[string]func(w *world, rates *[regions]float64){
		"instances": func(w *world, _ *[regions]float64) { w.die(2) },
		"all of it": func(w *world, rates *[regions]float64) {
			w.vanish(2)
			*rates = [regions]float64{at80 * 1.5, at80 * 1.5, 0}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 42)
			rates := [regions]float64{at80, at80, at80}
			w.beat()
			for r := range regions {
				w.callers(r, func() float64 { return rates[r] }, mix)
			}
			w.run(12 * time.Second)
			for p := range route.Priorities {
				if w.failed[p] > 0 {
					t.Errorf("before: %d calls of priority %s failed", w.failed[p], route.Priority(p))
				}
			}
			before := w.served[0] + w.served[1] + w.served[2]
			w.forget()
			lose(w, &rates)
			var first string
			var low, high [2]int // of the survivors' load, once it has settled
			for second := range 24 {
				w.run(time.Second)
				if second == 4 {
					first = fmt.Sprintf("%.3f %%", 100*w.success(route.PriorityCritical))
				}
				for r := range 2 {
					load := w.load(r, time.Second)
					if second <= 8 {
						low[r], high[r] = load, load
					}
					low[r], high[r] = min(low[r], load), max(high[r], load)
				}
			}
			critical, def, least := w.success(route.PriorityCritical), w.success(route.PriorityDefault), w.success(route.PriorityLow)
			t.Logf("figure: lost %s of one of three regions at 80 %%: %d calls before; success %.3f %% critical (%s in the first 5 s), %.1f %% default, %.1f %% low; peak load %.1f %% and %.1f %%, then %d to %d and %d to %d of %d; %d refused by far gateways, %d frames",
				name, before, 100*critical, first, 100*def, 100*least, 100*float64(w.peak[0])/whole, 100*float64(w.peak[1])/whole, low[0], high[0], low[1], high[1], whole, w.refused, w.frames)
			for r := range 2 {
				if w.peak[r] >= whole {
					t.Errorf("region %d was loaded with %d of %d", r, w.peak[r], whole)
				}
				if low[r] < 0.80*whole {
					t.Errorf("region %d carries %d of %d while calls are shed", r, low[r], whole)
				}
				if high[r]-low[r] > 0.15*whole {
					t.Errorf("load of region %d goes from %d to %d", r, low[r], high[r])
				}
			}
			if critical < 0.999 || least > def {
				t.Errorf("success %.5f critical, %.5f default, %.5f low", critical, def, least)
			}
		})
	}
}
