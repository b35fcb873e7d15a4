package route_test

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/route"
)

const middle = uint64(1) << 63 // of the jitter: none

func fail(e *route.Ejector, now time.Time, n int) (changed bool) {
	for range n {
		changed = e.Observe(route.ServiceFailure, now, middle, true) || changed
	}
	return changed
}

func TestEjectorOpensAfterFailuresInARow(t *testing.T) {
	e := route.NewEjector(route.EjectorOptions{})
	fail(e, epoch, 4)
	e.Observe(route.Success, epoch, middle, true)
	if fail(e, epoch, 4) || !e.Until().IsZero() || e.Reason() != "" {
		t.Fatal("ejected although a success came between")
	}
	if !fail(e, epoch, 1) {
		t.Fatal("not ejected after five failures in a row")
	}
	if got := e.Until().Sub(epoch); got != time.Second {
		t.Errorf("the first ejection lasts %s", got)
	}
	if e.Reason() == "" {
		t.Error("no reason is given")
	}
}

func TestOnlyTheServicesOwnFailuresEject(t *testing.T) {
	e := route.NewEjector(route.EjectorOptions{})
	for range 100 {
		for _, o := range []route.Outcome{route.LinkFailure, route.Refusal, route.CallerFailure} {
			if e.Observe(o, epoch, middle, true) {
				t.Fatalf("outcome %d changed the state", o)
			}
		}
	}
	// Nor do they count as successes between failures.
	fail(e, epoch, 4)
	e.Observe(route.LinkFailure, epoch, middle, true)
	if !fail(e, epoch, 1) {
		t.Error("a link failure interrupted the failures in a row")
	}
}

func TestEjectionDoublesPerFailedProbation(t *testing.T) {
	e := route.NewEjector(route.EjectorOptions{})
	now := epoch
	fail(e, now, 5)
	want := time.Second
	for i := range 10 {
		if got := e.Until().Sub(now); got != want {
			t.Fatalf("ejection %d lasts %s, want %s", i, got, want)
		}
		// Late answers and failures of calls from before say nothing new.
		if e.Observe(route.Success, now, middle, true) || fail(e, now, 20) {
			t.Fatalf("ejection %d changed while it lasted", i)
		}
		now = e.Until()
		if !e.Observe(route.ServiceFailure, now, middle, false) { // the one probation request; the cap is no matter
			t.Fatalf("a failed probation did not eject again")
		}
		want = min(2*want, time.Minute)
	}
	now = e.Until()
	if !e.Observe(route.Success, now, middle, true) || !e.Until().IsZero() {
		t.Fatal("a successful probation did not close it")
	}
	// It is not forgotten at once, or what flaps would be let in for ever ...
	fail(e, now, 5)
	if got := e.Until().Sub(now); got != time.Minute {
		t.Errorf("right after a success the next ejection lasts %s", got)
	}
	// ... but after as long in service as the longest ejection.
	now = e.Until()
	e.Observe(route.Success, now, middle, true)
	now = now.Add(time.Minute)
	fail(e, now, 5)
	if got := e.Until().Sub(now); got != time.Second {
		t.Errorf("after a minute in service the next ejection lasts %s", got)
	}
}

func TestEjectionJitterSpreadsByHalf(t *testing.T) {
	for random, want := range map[uint64]time.Duration{0: 500 * time.Millisecond, middle: time.Second, ^uint64(0): 1500 * time.Millisecond} {
		e := route.NewEjector(route.EjectorOptions{})
		for range 5 {
			e.Observe(route.ServiceFailure, epoch, random, true)
		}
		if got := e.Until().Sub(epoch); (got - want).Abs() > time.Microsecond {
			t.Errorf("random %x: %s, want %s", random, got, want)
		}
	}
}

func TestEjectionCap(t *testing.T) {
	o := route.DefaultEjector()
	for _, tt := range []struct {
		ejected, total int
		room           bool
	}{{0, 1, true}, {0, 2, true}, {1, 2, false}, {1, 3, false}, {1, 4, true}, {2, 4, false}, {4, 10, true}, {5, 10, false}} {
		if got := o.Room(tt.ejected, tt.total); got != tt.room {
			t.Errorf("room for one more than %d of %d: %v", tt.ejected, tt.total, got)
		}
	}
	e := route.NewEjector(o)
	for range 20 {
		if e.Observe(route.ServiceFailure, epoch, middle, false) {
			t.Fatal("ejected without room")
		}
	}
	if !e.Observe(route.ServiceFailure, epoch, middle, true) {
		t.Error("not ejected at the next failure with room")
	}
}

func TestRamp(t *testing.T) {
	var r route.Ramp
	o := route.RampOptions{Hold: 5 * time.Second, Step: 0.1, Interval: time.Second}
	at := func(seconds float64) float64 {
		w, next := r.Withheld(epoch.Add(time.Duration(seconds*float64(time.Second))), o)
		if w > 0 && !next.After(epoch.Add(time.Duration(seconds*float64(time.Second)))) {
			t.Errorf("at %v s the next change is at %s", seconds, next.Sub(epoch))
		}
		return w
	}
	r.Back(epoch)
	if got := at(0); got != 0 {
		t.Errorf("one that was never out withholds %v", got)
	}
	r.Out()
	if got := at(0); got != 0 {
		t.Errorf("one that is out withholds %v", got)
	}
	r.Back(epoch)
	r.Back(epoch.Add(time.Hour)) // only the first counts
	for seconds, want := range map[float64]float64{
		0: 1, 4.9: 1, 5: 0.9, 5.9: 0.9, 6: 0.8, 9.5: 0.5, 13: 0.1, 14: 0, 100: 0,
	} {
		if got := at(seconds); got < want-1e-6 || got > want+1e-6 {
			t.Errorf("at %v s: %v, want %v", seconds, got, want)
		}
	}
	// An outage in between starts over.
	r.Out()
	r.Back(epoch.Add(10 * time.Second))
	if got := at(12); got != 1 {
		t.Errorf("after a relapse: %v", got)
	}
	w, next := r.Withheld(epoch.Add(10*time.Second), route.RampOptions{})
	if w != 1 || next != epoch.Add(70*time.Second) {
		t.Errorf("by default: %v until %s", w, next.Sub(epoch))
	}
}
