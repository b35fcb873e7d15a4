package route_test

import (
	"math"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/route"
)

func near(t *testing.T, what string, got, want time.Duration) {
	t.Helper()
	// The stamp's unit is 2^20 ns, 0.01 % of the decay.
	if math.Abs(float64(got-want)) > 0.001*float64(want)+2 {
		t.Errorf("%s: %s, want %s", what, got, want)
	}
}

func TestPeakEWMA(t *testing.T) {
	var c route.Counters
	at := func(d time.Duration) int64 { return epoch.Add(d).UnixNano() }
	call := func(when, took time.Duration, ok bool) {
		c.Begin(at(when))
		c.End(at(when), took, ok)
	}
	if got := c.EWMA(at(0)); got != 0 {
		t.Errorf("before the first sample: %s", got)
	}
	call(0, 10*time.Millisecond, true)
	near(t, "the first sample", c.EWMA(at(0)), 10*time.Millisecond)
	near(t, "idle for one decay", c.EWMA(at(route.Decay)), time.Duration(1e7*math.Exp(-1)))
	near(t, "idle for ten", c.EWMA(at(10*route.Decay)), time.Duration(1e7*math.Exp(-10)))
	call(0, 40*time.Millisecond, true)
	near(t, "a peak replaces at once", c.EWMA(at(0)), 40*time.Millisecond)
	call(5*time.Second, 10*time.Millisecond, true)
	k := math.Exp(-0.5)
	near(t, "below, it moves by 1-exp(-dt/tau)", c.EWMA(at(5*time.Second)), time.Duration(4e7*k+1e7*(1-k)))
	call(5*time.Second, time.Millisecond, false)
	near(t, "a fast failure counts as slow", c.EWMA(at(5*time.Second)), route.FailureLatency)
	near(t, "a clock that goes back", c.EWMA(at(0)), route.FailureLatency)
	if c.Requests() != 4 || c.Failures() != 1 || c.InFlight() != 0 {
		t.Errorf("%d requests, %d failures, %d in flight", c.Requests(), c.Failures(), c.InFlight())
	}
	c.Begin(at(6 * time.Second))
	c.Cancel()
	if c.InFlight() != 0 || c.Failures() != 1 {
		t.Errorf("after a cancel: %d in flight, %d failures", c.InFlight(), c.Failures())
	}
	near(t, "a cancel is no sample", c.EWMA(at(5*time.Second)), route.FailureLatency)
}

func TestCountersLoseNothingUnderContention(t *testing.T) {
	var c route.Counters
	var wg sync.WaitGroup
	const each = 2000
	for g := range 4 {
		wg.Go(func() {
			for i := range each {
				now := epoch.Add(time.Duration(i) * time.Millisecond).UnixNano()
				c.Begin(now)
				c.End(now, time.Duration(1+i%7)*time.Millisecond, i%100 != g)
			}
		})
	}
	wg.Wait()
	if c.Requests() != 4*each || c.InFlight() != 0 || c.Failures() != 4*each/100 {
		t.Errorf("%d requests, %d in flight, %d failures", c.Requests(), c.InFlight(), c.Failures())
	}
	if got := c.EWMA(epoch.Add(each * time.Millisecond).UnixNano()); got <= 0 || got > route.FailureLatency {
		t.Errorf("the estimate is %s", got)
	}
}
