package route_test

import (
	"math"
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

// The short ejections of one bad moment make no long one longer.
func TestOutliersAreOutByTheNumberOfTheirOwnEjections(t *testing.T) {
	e := route.NewEjector(route.EjectorOptions{})
	now := epoch
	fail(e, now, 5)
	for range 4 {
		now = e.Until()
		fail(e, now, 1)
	}
	for i := range 12 {
		now = e.Until()
		e.Observe(route.Success, now, middle, true)
		if !e.Eject(now, middle, "half of its calls failed") || e.Eject(now, middle, "again") {
			t.Fatal("not ejected once")
		}
		if got, want := e.Until().Sub(now), min(time.Duration(i+1)*30*time.Second, 300*time.Second); got != want {
			t.Errorf("ejection %d as an outlier lasts %s, want %s", i+1, got, want)
		}
	}
	now = e.Until()
	e.Observe(route.Success, now, middle, true)
	now = now.Add(time.Minute)
	if e.Eject(now, middle, "after a calm"); e.Until().Sub(now) != 30*time.Second {
		t.Errorf("after a calm it is out for %s", e.Until().Sub(now))
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
	r.Out(epoch, o)
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
	r.Out(epoch.Add(10*time.Second), o)
	r.Back(epoch.Add(10 * time.Second))
	if got := at(19.9); got != 1 { // twice as long
		t.Errorf("after a relapse: %v", got)
	}
	if got := at(20); got < 0.9-1e-6 || got > 0.9+1e-6 {
		t.Errorf("after twice the hold-down: %v", got)
	}
	w, next := r.Withheld(epoch.Add(10*time.Second), route.RampOptions{})
	if w != 1 || next != epoch.Add(130*time.Second) {
		t.Errorf("by default: %v until %s", w, next.Sub(epoch))
	}
}

// What leaves before it has served in full for as long is held back for twice as long.
func TestARelapseIsHeldBackLonger(t *testing.T) {
	var r route.Ramp
	o := route.RampOptions{Hold: 10 * time.Second, Step: 0.5, Interval: time.Second}
	now := epoch
	hold := func() (d time.Duration) {
		r.Out(now, o)
		r.Back(now)
		for r.Holding(now.Add(d), o) {
			d += time.Second
		}
		return d
	}
	for i, want := range []time.Duration{10, 20, 40, 50, 50} {
		got := hold()
		if got != want*time.Second {
			t.Errorf("departure %d: held back for %v, want %v s", i, got, want)
		}
		now = now.Add(got + 5*time.Second) // it serves in full for 4 s
	}
	now = now.Add(time.Minute)
	if got := hold(); got != 10*time.Second {
		t.Errorf("after a minute in service: held back for %v", got)
	}
	// What leaves while it is held back had nothing yet: that is no relapse.
	for range 5 {
		now = now.Add(time.Second)
		r.Out(now, o)
		r.Back(now)
	}
	if got := hold(); got != 10*time.Second {
		t.Errorf("after departures from a hold-down: held back for %v", got)
	}
}

// A fail-back gives no more than the part of the capacity that is back.
func TestRampByCapacity(t *testing.T) {
	o := route.RampOptions{Hold: 10 * time.Second, Step: 0.1, Interval: time.Second}
	var r route.Ramp
	now := epoch
	share := func(ready uint64, after time.Duration) float64 {
		now = now.Add(after)
		r.Ready(ready, now, o)
		w, _ := r.Withheld(now, o)
		return 1 - w
	}
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-6 {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	near("in service", share(20, 0), 1)
	near("less of it, in service", share(5, time.Second), 1)
	near("all of it", share(20, time.Second), 1)
	r.Ready(0, now, o)
	r.Out(now, o)
	near("out", share(0, time.Hour), 1)
	r.Ready(2, now, o)
	r.Back(now)
	near("held back", share(2, 9*time.Second), 0)
	near("by time", share(3, time.Second), 0.1)
	near("by capacity", share(3, 40*time.Second), 0.15)
	near("more is back", share(10, 10*time.Second), 0.5)
	near("no more comes", share(10, 49*time.Second), 0.5)
	near("that is all: on by time", share(10, time.Second), 0.6)
	near("on", share(10, 2*time.Second), 0.8)
	near("in full", share(10, 10*time.Second), 1)
	near("what it had once is no measure any more", share(9, time.Second), 1)

	r = route.Ramp{}
	r.Join(30)
	near("new beside thirty", share(1, 0), 1.0/30)
	near("no hold-down", share(15, time.Second), 0.5)
	near("as many", share(30, time.Second), 1)
	near("in full service its part is no measure", share(29, time.Second), 1)
	r = route.Ramp{}
	r.Join(0)
	near("nobody else", share(1, 0), 1)
}
