package codel_test

import (
	"slices"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/flow/codel"
	"pgregory.net/rapid"
)

// serve feeds a FIFO queue with one server at load times what it can serve, and returns
// the waits of those that were served and how long the server was idle.
func serve(load float64, length time.Duration, o codel.Options) (waits []time.Duration, idle time.Duration) {
	const service = time.Millisecond
	var s codel.State
	var queue []int64
	between := int64(float64(service) / load)
	start := int64(1e18)
	free, next := start, start
	for next < start+int64(length) {
		// Arrivals until the server is free.
		for next <= free {
			queue, next = append(queue, next), next+between
		}
		served := false
		for len(queue) > 0 && !served {
			waited := time.Duration(free - queue[0])
			queue = queue[1:]
			if !s.Leave(free, waited, o) {
				waits, served = append(waits, waited), true
			}
		}
		if !served {
			s.Emptied()
			idle += time.Duration(next - free)
			free = next
			continue
		}
		free += int64(service)
	}
	return waits, idle
}

// TestHoldsTheWaitAtTheTarget: at twice what can be served, the wait of those that are
// served is the target, and the server is never idle.
func TestHoldsTheWaitAtTheTarget(t *testing.T) {
	o := codel.Options{}.Filled()
	for _, load := range []float64{1.2, 2, 5} {
		waits, idle := serve(load, 30*time.Second, o)
		settled := waits[len(waits)/10:]
		slices.Sort(settled)
		p50, p99 := settled[len(settled)/2], settled[len(settled)*99/100]
		t.Logf("figure: wait at %.1f times what can be served, target %v: p50 %v, p99 %v, served %d of 30000", load, o.Target, p50, p99, len(waits))
		if p99 > o.Target {
			t.Errorf("load %v: p99 of the wait is %v, the target %v", load, p99, o.Target)
		}
		if p50 < o.Target/2 {
			t.Errorf("load %v: p50 of the wait is %v: the queue is kept emptier than it needs to be", load, p50)
		}
		if idle > 30*time.Millisecond {
			t.Errorf("load %v: the server was idle for %v while there was work", load, idle)
		}
	}
}

// TestServesABurstWhole: a burst that is gone within the interval loses nothing.
func TestServesABurstWhole(t *testing.T) {
	o := codel.Options{}.Filled()
	var s codel.State
	now := int64(1e18)
	for i := range 90 { // all at once, a millisecond each
		if s.Leave(now+int64(i)*int64(time.Millisecond), time.Duration(i)*time.Millisecond, o) {
			t.Fatalf("request %d of a burst is dropped", i)
		}
	}
	s.Emptied()
	if s.Standing() || s.Since(now) != 0 {
		t.Error("an empty queue stands")
	}
}

// TestBounds: whatever came before, a request within the target is served, and one that
// waited longer than the interval is not; an interval of short waits ends it.
func TestBounds(t *testing.T) {
	o := codel.Options{}.Filled()
	rapid.Check(t, func(t *rapid.T) {
		var s codel.State
		now := int64(1e18)
		for range rapid.IntRange(1, 200).Draw(t, "requests") {
			now += rapid.Int64Range(0, int64(50*time.Millisecond)).Draw(t, "gap")
			waited := time.Duration(rapid.Int64Range(0, int64(200*time.Millisecond)).Draw(t, "waited"))
			drop := s.Leave(now, waited, o)
			switch {
			case waited <= o.Target && drop:
				t.Fatal("a request within the target is dropped")
			case waited > o.Interval && !drop:
				t.Fatal("a request is served after it waited longer than the interval")
			}
		}
		for range 4 {
			s.Leave(now, o.Target/2, o)
			now += int64(o.Interval) / 2
		}
		if s.Standing() {
			t.Fatal("it stands after an interval of short waits")
		}
	})
}
