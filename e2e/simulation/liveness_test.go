package simulation_test

import (
	"flag"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/simulation"
)

var (
	hours = flag.Float64("hours", watchedHours, "how long each link is watched")
	links = flag.Int("links", watchedLinks, "how many links are watched")
	every = flag.Duration("every", 10*time.Minute, "mean time between two stalls of one end")
)

// A link that is well is not given up: 2 % loss, 50 ms of jitter, and ends that get no
// CPU for 400 ms. The whole figure is 24 hours of 100 links, by -hours and -links.
func TestNoFalseFailover(t *testing.T) {
	for _, c := range []struct {
		name   string
		strain simulation.Strain
	}{
		{"loss and jitter", simulation.Strain{Delay: 50 * time.Millisecond, Jitter: 50 * time.Millisecond, Loss: 0.02}},
		{"and stalls of 400 ms", simulation.Strain{Delay: 50 * time.Millisecond, Jitter: 50 * time.Millisecond, Loss: 0.02, Stall: 400 * time.Millisecond, Every: *every}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.strain.For = time.Duration(*hours * float64(time.Hour))
			var mu sync.Mutex
			var sum simulation.Watched
			each(*links, func(seed uint64) {
				w := simulation.Watch(seed, c.strain)
				mu.Lock()
				defer mu.Unlock()
				sum.Deaf += w.Deaf
				sum.Unheard += w.Unheard
				sum.Stalls += w.Stalls
				sum.Probes += w.Probes
			})
			t.Logf("figure: %d false deaths (%d deaf, %d unheard) in %.1f simulated hours x %d links, %d probes, %d stalls",
				sum.Deaf+sum.Unheard, sum.Deaf, sum.Unheard, *hours, *links, sum.Probes, sum.Stalls)
			if sum.Deaf+sum.Unheard > 0 {
				t.Error("links that are well were given up")
			}
		})
	}
}
