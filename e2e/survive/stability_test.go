package survive

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
)

// The promises of paths that are bad, but there.
const (
	stall           = 400 * time.Millisecond
	maxRouteChanges = 10
	flapSuccess     = 0.999
)

// badPath has 2 % loss and 50 ms of jitter, and a round trip of 100 ms on average.
var badPath = tunneltest.Path{Delay: 25 * time.Millisecond, Jitter: 50 * time.Millisecond, Loss: 0.02}

// maxLinksLost in an hour of the six links. Where packets beside a stall are lost, a
// link can be silent for seven probes; the other one between the two clusters then
// carries the calls, and nobody notices.
const maxLinksLost = 2

// TestNoFalseFailover: paths that lose, jitter and now and then stand still for
// 400 ms move no call, fail none and put no cluster out of reach.
func TestNoFalseFailover(t *testing.T) {
	seeds, length := uint64(1), 10*time.Minute
	if full() {
		seeds, length = 20, time.Hour
	}
	if *hours > 0 {
		seeds, length = *hours, time.Hour
	}
	calls, stalls, lost := 0, 0, 0
	var took times
	for seed := *firstSeed; seed < *firstSeed+seeds; seed++ {
		inWorld(t, seed, bothServe, func(w *world) {
			clusters := []catalog.ClusterName{near, first, second}
			for i, a := range clusters {
				for _, b := range clusters[i+1:] {
					w.between(a, b, badPath)
				}
			}
			l := w.load(250*time.Millisecond, 500*time.Millisecond)
			defer l.stop()
			l.steady()
			w.events.forget()
			began := time.Now()
			check := func() {
				for _, c := range l.take() {
					calls++
					took = append(took, c.took())
					if c.err != nil || c.by != first {
						w.failf("a call after %v went to %q: %v", c.begin.Sub(began), c.by, c.err)
					}
				}
			}
			for time.Since(began) < length {
				time.Sleep(time.Duration(1+w.random.IntN(20))*time.Second + time.Duration(w.random.IntN(1000))*time.Millisecond)
				a := w.random.IntN(len(clusters))
				b := (a + 1 + w.random.IntN(len(clusters)-1)) % len(clusters)
				p := badPath
				p.Held = time.Now().Add(stall)
				if w.oneWay(clusters[a], clusters[b], p); w.random.IntN(2) == 0 {
					w.oneWay(clusters[b], clusters[a], p)
				}
				stalls++
				check()
			}
			time.Sleep(patience)
			check()
			down := 0
			for _, of := range clusters {
				for _, about := range clusters {
					for _, e := range w.events.since(began, of, "cluster reach changed", about) {
						w.failf("after %v %s: %s %s", e.at.Sub(began), of, e.message, e.text)
					}
					down += len(w.events.since(began, of, "link is down", about))
				}
			}
			if down /= 2; down > maxLinksLost { // both ends tell
				w.failf("%d links were given up%s", down, w.events.tail(began))
			}
			lost += down
		})
	}
	t.Logf("figure: %d seeds from %d on of %v with 2 %% loss, 50 ms jitter and %d stalls of %v: %d calls, all answered by their region, took %v; %d links were given up and none was missed",
		seeds, *firstSeed, length, stalls, stall, calls, took, lost)
}

// TestFlapping: the path to first comes and goes for ten minutes, too fast to be
// noticed and slowly enough to be noticed each time, with the fail-back of the
// product's defaults.
func TestFlapping(t *testing.T) {
	length := 2 * time.Minute
	if full() {
		length = 10 * time.Minute
	}
	for _, tt := range []struct {
		name     string
		down, up time.Duration
	}{
		{"1 Hz", 500 * time.Millisecond, 500 * time.Millisecond},
		{"1 Hz, mostly down", 900 * time.Millisecond, 100 * time.Millisecond},
		{"a second each", time.Second, time.Second},
		{"up for long enough to link", time.Second, 3 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, 1, func(w *world) { bothServe(w); w.failBack = gateway.FailBack{} }, func(w *world) {
				w.between(near, first, tunneltest.Path{Delay: 20 * time.Millisecond})
				w.between(near, second, tunneltest.Path{Delay: 40 * time.Millisecond})
				l := w.load(50*time.Millisecond, 200*time.Millisecond)
				l.steady()
				time.Sleep(10 * time.Second)
				l.take()
				for began := time.Now(); time.Since(began) < length; {
					w.cut(true, true)
					time.Sleep(tt.down)
					w.cut(false, false)
					time.Sleep(tt.up)
				}
				l.stop()
				total, good, connections, reset := 0, 0, 0, 0
				calls := l.take()
				for _, c := range calls {
					if c.tcp {
						connections++
						if c.err != nil {
							reset++
						}
						continue
					}
					total++
					if c.err == nil {
						good++
					}
				}
				changes := routeChanges(calls)
				share := float64(good) / float64(total)
				t.Logf("figure: flapping, %s, for %v: %d route changes, %.3f %% of %d requests answered, %d of %d connections reset",
					tt.name, length, changes, 100*share, total, reset, connections)
				if changes > maxRouteChanges || share < flapSuccess {
					w.failf("%d route changes, %.3f %% of requests answered", changes, 100*share)
				}
			})
		})
	}
}

// routeChanges counts how often most of a second's answers came from another
// region than those of the second before.
func routeChanges(calls []*call) int {
	slices.SortFunc(calls, func(a, b *call) int { return a.begin.Compare(b.begin) })
	changes := 0
	var last catalog.ClusterName
	by := make(map[catalog.ClusterName]int)
	var slot time.Time
	for _, c := range calls {
		if s := c.begin.Truncate(time.Second); s != slot {
			most := last
			for name, n := range by {
				if n > by[most] {
					most = name
				}
			}
			if last != "" && most != last {
				changes++
			}
			slot, last = s, most
			clear(by)
		}
		if c.by != "" {
			by[c.by]++
		}
	}
	return changes
}

// TestEvacuation: the weight of first goes from 100 to 0 in steps of one, under
// load, without an error, and back.
func TestEvacuation(t *testing.T) {
	inWorld(t, 1, bothServe, func(w *world) {
		l := w.load(10*time.Millisecond, 20*time.Millisecond)
		weigh := func(share int) {
			w.traffic = policy.Traffic{
				Name: "evacuate", Services: []policy.ServicePattern{"*"},
				Weights: map[catalog.ClusterName]uint32{first: uint32(share), second: uint32(100 - share)},
			}
			w.push()
			time.Sleep(500 * time.Millisecond)
		}
		weigh(100)
		time.Sleep(time.Second)
		shares := func() float64 {
			calls := l.take()
			by := 0
			for _, c := range calls {
				if c.err != nil {
					w.failf("a call failed (connection: %v): %v", c.tcp, c.err)
				}
				if c.by == first {
					by++
				}
			}
			return float64(by) / float64(max(1, len(calls)))
		}
		shares()
		total, failed := 0, len(w.problems)
		var off float64
		measure := func(share int) {
			weigh(share)
			l.mu.Lock()
			total += len(l.calls)
			l.mu.Unlock()
			if got := shares(); share%10 == 0 {
				off = max(off, got-float64(share)/100, float64(share)/100-got)
			}
		}
		for share := 99; share >= 0; share-- {
			measure(share)
		}
		time.Sleep(time.Second)
		l.take()
		time.Sleep(time.Second)
		if s := shares(); s != 0 {
			w.failf("an evacuated region still answers %.1f %% of calls", 100*s)
		}
		for share := 1; share <= 100; share++ {
			measure(share)
		}
		l.stop()
		w.t.Logf("figure: evacuation in steps of 1 %% and back: %d calls, %d failed; the share was off by %.0f %% at most in half a second's calls", total, len(w.problems)-failed, 100*off)
		if off > 0.25 {
			w.failf("the share was off by %.2f", off)
		}
	})
}

// every runs f each d until the returned function is called.
func every(d time.Duration, f func()) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(d)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				f()
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}
