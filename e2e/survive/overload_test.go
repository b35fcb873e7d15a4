package survive

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/gateway/retry"
)

// What the service can do, and what is asked of it.
const (
	workers     = 4
	work        = 40 * time.Millisecond
	capacity    = float64(workers) / (float64(work) / float64(time.Second)) // a second
	usual       = 0.8
	overload    = 2.0
	overloadFor = 30 * time.Second
	recoverIn   = 30 * time.Second
	goodput     = 0.99
	// impatience is how long callers wait here.
	impatience = time.Second
)

// service has a fixed capacity and a queue without end. A patient one works off
// what is in its queue whether or not somebody still waits for it.
type service struct {
	slots    chan struct{}
	patient  bool
	arrivals atomic.Int64 // attempts that reached it
}

func (s *service) serve(name catalog.ClusterName) http.HandlerFunc {
	s.slots = make(chan struct{}, workers)
	return func(rw http.ResponseWriter, r *http.Request) {
		s.arrivals.Add(1)
		gone := r.Context().Done()
		if s.patient {
			gone = nil
		}
		select {
		case s.slots <- struct{}{}:
		case <-gone:
			return
		}
		time.Sleep(work)
		<-s.slots
		_, _ = io.WriteString(rw, string(name))
	}
}

// window is a second of counts, all since the start.
type window struct{ calls, retries, arrivals int64 }

// TestRetriesStayInTheirBudgetAndOverloadEnds: twice what a service can do for 30 s,
// then 80 % of it. In no ten seconds are there more attempts upstream than 1.2 times
// the calls plus 3, and half a minute later all is well: retries do not keep up
// what they began.
func TestRetriesStayInTheirBudgetAndOverloadEnds(t *testing.T) {
	adaptive := &policy.Limits{Concurrency: &policy.Concurrency{Adaptive: true}}
	for _, tt := range []struct {
		name    string
		regions int
		patient bool
		limits  *policy.Limits
		during  float64 // of the capacity, that is answered in the overload at least
	}{
		// Without a policy the gateway limits the service when callers give up.
		{name: "one region", regions: 1, during: 0.7},
		{name: "two regions", regions: 2, during: 0.7},
		{name: "a service that answers who has gone", regions: 1, patient: true, during: 0.6},
		{name: "one region with limits", regions: 1, limits: adaptive, during: 0.8},
		{name: "two regions with limits", regions: 2, limits: adaptive, during: 0.8},
		{name: "a service that answers who has gone, with limits", regions: 1, patient: true, limits: adaptive, during: 0.8},
	} {
		t.Run(tt.name, func(t *testing.T) {
			one, two := service{patient: tt.patient}, service{patient: tt.patient}
			configure := func(w *world) {
				w.limits = tt.limits
				w.traffic.Clusters = nil
				w.traffic.Weights = map[catalog.ClusterName]uint32{first: 1, second: 1}
				w.sites[first].serve(one.serve(first))
				if tt.regions > 1 {
					w.sites[second].serve(two.serve(second))
				}
			}
			inWorld(t, 1, configure, func(w *world) {
				var calls atomic.Int64
				at := func(load float64) *offer { return w.offer(load*capacity*float64(tt.regions), &calls) }
				var seconds []window
				stop := every(time.Second, func() {
					seconds = append(seconds, window{calls.Load(), int64(w.counter(near, "isthmus_gateway_retries_total")), one.arrivals.Load() + two.arrivals.Load()})
				})
				before := at(usual).run(15 * time.Second)
				during := at(overload).run(overloadFor)
				at(usual).run(recoverIn)
				after := at(usual).run(10 * time.Second)
				stop()
				w.budgets(t, seconds)
				t.Logf("figure: %s: goodput %.1f %% at %.0f %% load, %.1f %% of capacity at %.0f %%, %.1f %% %v after it",
					tt.name, 100*before, 100*usual, 100*during*overload, 100*overload, 100*after, recoverIn)
				if before < goodput || after < goodput {
					w.failf("goodput %.3f before the overload and %.3f after it, want %.2f", before, after, goodput)
				}
				if during*overload < tt.during {
					w.failf("%.2f of the capacity was of use in the overload, want %.2f", during*overload, tt.during)
				}
			})
		})
	}
}

// TestALostRegionDoesNotTakeTheNextWithIt: first is lost for 30 s, when second
// can take but a part of the calls; after it is back all calls go well again.
func TestALostRegionDoesNotTakeTheNextWithIt(t *testing.T) {
	var one, two service
	configure := func(w *world) {
		w.sites[first].serve(one.serve(first))
		w.sites[second].serve(two.serve(second))
		w.traffic.Clusters = nil
		w.traffic.Weights = map[catalog.ClusterName]uint32{first: 1, second: 1}
	}
	inWorld(t, 1, configure, func(w *world) {
		var calls atomic.Int64
		at := func(load float64) *offer { return w.offer(load*capacity*2, &calls) }
		var seconds []window
		stop := every(time.Second, func() {
			seconds = append(seconds, window{calls.Load(), int64(w.counter(near, "isthmus_gateway_retries_total")), one.arrivals.Load() + two.arrivals.Load()})
		})
		before := at(usual).run(15 * time.Second)
		w.cut(true, true)
		during := at(usual).run(overloadFor)
		w.cut(false, false)
		at(usual).run(recoverIn)
		after := at(usual).run(10 * time.Second)
		stop()
		w.budgets(t, seconds)
		t.Logf("figure: a lost region: goodput %.1f %% before, %.1f %% of the other region's capacity while it is lost, %.1f %% %v after it is back",
			100*before, 100*during*usual*2, 100*after, recoverIn)
		if before < goodput || after < goodput {
			w.failf("goodput %.3f before and %.3f after, want %.2f", before, after, goodput)
		}
	})
}

// offer is a load of so many requests a second by callers who wait for a second.
type offer struct {
	world *world
	each  time.Duration
	calls *atomic.Int64
}

func (w *world) offer(perSecond float64, calls *atomic.Int64) *offer {
	return &offer{w, time.Duration(float64(time.Second) / perSecond), calls}
}

// run offers it for a time, and returns the share that was answered.
func (o *offer) run(d time.Duration) float64 {
	l := o.world.load(o.each, 0)
	l.client.Timeout = impatience
	l.called = o.calls
	time.Sleep(d)
	l.stop()
	good, total := 0, 0
	for _, c := range l.take() {
		if total++; c.err == nil {
			good++
		}
	}
	return float64(good) / float64(max(1, total))
}

// budgets holds the attempts of every ten seconds against the calls in them.
func (w *world) budgets(t *testing.T, seconds []window) {
	var most, worst float64
	length := int(retry.Window / time.Second)
	for i := length; i < len(seconds); i++ {
		a, b := seconds[i-length], seconds[i]
		calls, retries := float64(b.calls-a.calls), float64(b.retries-a.retries)
		arrivals := float64(b.arrivals - a.arrivals)
		most = max(most, retries/max(1, calls))
		worst = max(worst, arrivals/max(1, calls))
		// What is promised is of the ten seconds before each retry, so those in a window are
		// within the budget of its last one: where the load falls, that has seen more calls
		// than the window. Which second that was in is not known; a second that has begun counts.
		earned := 0.0
		for j := i - length + 1; j <= i; j++ {
			earned = max(earned, float64(seconds[j].calls-seconds[max(0, j-length-1)].calls))
		}
		if retries > retry.Ratio*earned+retry.Floor {
			w.failf("%.0f retries in the ten seconds until %d, and %.0f calls in those before them", retries, i, earned)
		}
		// An attempt may arrive a moment after the second in which it was counted.
		if slack := calls / float64(length); arrivals > (1+retry.Ratio)*calls+retry.Floor+slack {
			w.failf("%.0f attempts upstream for %.0f calls in the ten seconds until %d", arrivals, calls, i)
		}
	}
	t.Logf("figure: in any ten seconds at most %.2f retries and %.2f arrivals upstream a call", most, worst)
}
