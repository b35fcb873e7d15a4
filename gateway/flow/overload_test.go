package flow_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/gateway/flow"
)

// backend is a service of some workers, first come first served, whose work takes an
// exponential time: M/M/c. It works on what its caller has given up, too.
type backend struct {
	workers chan struct{}
	mean    time.Duration
	mu      sync.Mutex
	random  *rand.Rand
	wg      sync.WaitGroup
}

func newBackend(workers int, mean time.Duration) *backend {
	return &backend{workers: make(chan struct{}, workers), mean: mean, random: rand.New(rand.NewPCG(1, 2))}
}

func (b *backend) can() float64 { return float64(cap(b.workers)) / b.mean.Seconds() }

func (b *backend) work() {
	b.workers <- struct{}{}
	b.mu.Lock()
	takes := time.Duration(b.random.ExpFloat64() * float64(b.mean))
	b.mu.Unlock()
	time.Sleep(takes)
	<-b.workers
}

// outcome is what callers saw of one time.
type outcome struct {
	mu    sync.Mutex
	calls int
	good  int             // answered before the timeout
	took  []time.Duration // of the good ones, from the first try on
}

func (o *outcome) p99() time.Duration {
	slices.Sort(o.took)
	if len(o.took) == 0 {
		return 0
	}
	return o.took[len(o.took)*99/100]
}

// callers call with the rate for a time, each with a timeout; a call that is refused or
// too late is tried again, tries times in all. It returns when they have all ended.
func callers(c *flow.Controller, b *backend, rate float64, length, timeout time.Duration, tries int) *outcome {
	var wg sync.WaitGroup
	o := arrive(&wg, c, b, rate, length, timeout, tries)
	wg.Wait()
	b.wg.Wait()
	return o
}

// arrive is callers without the wait for their end.
func arrive(wg *sync.WaitGroup, c *flow.Controller, b *backend, rate float64, length, timeout time.Duration, tries int) *outcome {
	o := new(outcome)
	random := rand.New(rand.NewPCG(3, 4))
	for end := time.Now().Add(length); time.Now().Before(end); {
		wg.Go(func() {
			began := time.Now()
			good := false
			for range tries {
				ctx, cancel := context.WithTimeout(context.Background(), timeout)
				good = one(ctx, c, b)
				cancel()
				if good {
					break
				}
				time.Sleep(50 * time.Millisecond)
			}
			o.mu.Lock()
			defer o.mu.Unlock()
			if o.calls++; good {
				o.good++
				o.took = append(o.took, time.Since(began))
			}
		})
		time.Sleep(time.Duration(random.ExpFloat64() / rate * float64(time.Second)))
	}
	return o
}

// one makes one try.
func one(ctx context.Context, c *flow.Controller, b *backend) bool {
	p, refused := c.Enter(ctx, &flow.Try{Service: pay, Cluster: "west", Own: true, Request: true, From: "east"})
	if refused != nil {
		return false
	}
	done := make(chan struct{})
	b.wg.Go(func() { b.work(); close(done) })
	select {
	case <-done:
		p.Answered(true)
		p.End()
		return true
	case <-ctx.Done():
		p.End()
		return false // the service works on
	}
}

func adaptive(t *testing.T) *flow.Controller {
	c, _ := newController(t, &policy.Limits{Concurrency: &policy.Concurrency{Adaptive: true}})
	return c
}

// TestOverload: at two and five times what the service can do, it does nearly all that
// it can, and those who are let in wait little longer than at the peak. Without a limit
// nearly nobody gets an answer in time.
func TestOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := newBackend(20, 40*time.Millisecond), adaptive(t)
		const timeout = time.Second
		callers(c, b, 0.5*b.can(), 10*time.Second, timeout, 1)
		peak := callers(c, b, 0.95*b.can(), 20*time.Second, timeout, 1)
		best, atPeak := float64(peak.good)/20, peak.p99()
		t.Logf("figure: at 0.95 of what it can do: goodput %.0f/s of %.0f, p99 %v", best, b.can(), atPeak)
		for _, times := range []float64{2, 5} {
			callers(c, b, times*b.can(), 5*time.Second, timeout, 1)
			o := callers(c, b, times*b.can(), 20*time.Second, timeout, 1)
			goodput := float64(o.good) / 20
			t.Logf("figure: at %.0f times: goodput %.0f/s (%.2f of the peak), p99 of those let in %v (%.2f times that of the peak)", times, goodput, goodput/best, o.p99(), float64(o.p99())/float64(atPeak))
			if goodput < 0.9*best {
				t.Errorf("%.0f times: goodput %.0f/s, the peak is %.0f/s", times, goodput, best)
			}
			if o.p99() > 2*atPeak {
				t.Errorf("%.0f times: p99 of those let in is %v, %v at the peak", times, o.p99(), atPeak)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBackend(20, 40*time.Millisecond)
		o := callers(nil, b, 2*b.can(), 20*time.Second, time.Second, 1)
		t.Logf("figure: at 2 times without a limit: goodput %.0f/s of %.0f", float64(o.good)/20, b.can())
		if float64(o.good)/20 > 0.5*b.can() {
			t.Error("the service does not need a limit: the test shows nothing")
		}
	})
}

// TestNoMetastableFailure: after 30 s of twice what the service can do, with callers
// that try again at once, 80 % of it is served whole within 30 s, by itself. Without a
// limit the retries and what nobody waits for any more keep the service busy for good.
func TestNoMetastableFailure(t *testing.T) {
	run := func(t *testing.T, c *flow.Controller) (within []float64) {
		b := newBackend(20, 40*time.Millisecond)
		const timeout = time.Second
		var wg sync.WaitGroup
		arrive(&wg, c, b, 0.8*b.can(), 10*time.Second, timeout, 3)
		during := arrive(&wg, c, b, 2*b.can(), 30*time.Second, timeout, 3)
		var after []*outcome
		for range 6 { // what the overload has left is still there
			after = append(after, arrive(&wg, c, b, 0.8*b.can(), 5*time.Second, timeout, 3))
		}
		wg.Wait()
		b.wg.Wait()
		for _, o := range after {
			within = append(within, float64(o.good)/float64(o.calls))
		}
		t.Logf("figure: goodput during twice what it can do %.3f of it; in each 5 s after it, at 0.8: %.3f", float64(during.good)/30/b.can(), within)
		return within
	}
	synctest.Test(t, func(t *testing.T) {
		for i, share := range run(t, adaptive(t)) {
			if i > 0 && share < 0.99 {
				t.Errorf("goodput %.3f %d s after the overload", share, 5*i)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		if within := run(t, nil); within[5] > 0.5 {
			t.Errorf("goodput %.3f without a limit: the test shows nothing", within)
		}
	})
}
