package route_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/route"
)

func TestOutlier(t *testing.T) {
	of := func(calls, failures uint64) route.Standing { return route.Standing{Calls: calls, Failures: failures} }
	out := func(s route.Standing) route.Standing { s.Ejected = true; return s }
	trial := func(s route.Standing) route.Standing { s.Trial = true; return s }
	for _, tc := range []struct {
		name    string
		members []route.Standing
		worst   int // -1: none
	}{
		{"nobody fails", []route.Standing{of(100, 0), of(100, 0)}, -1},
		{"one of two fails half", []route.Standing{of(100, 0), of(100, 50)}, 1},
		{"one fails all of what its retries bring to the other", []route.Standing{of(40, 40), of(40, 0)}, 0},
		{"all fail alike", []route.Standing{of(100, 50), of(100, 52), of(100, 47)}, -1},
		{"chance", []route.Standing{of(30, 2), of(100, 0), of(100, 1)}, -1},
		{"one in ten of many", []route.Standing{of(300, 1), of(300, 30), of(300, 0), of(300, 2)}, 1},
		{"more, but hardly", []route.Standing{of(100_000, 4000), of(100_000, 0)}, -1},
		{"too few calls", []route.Standing{of(19, 19), of(100, 0)}, -1},
		{"the worse of two", []route.Standing{of(100, 30), of(100, 60), of(100, 0), of(100, 0)}, 1},
		{"who is out is not compared with", []route.Standing{out(of(100, 0)), of(100, 40), of(100, 42)}, -1},
		{"who is out is not judged", []route.Standing{out(of(100, 90)), of(100, 0), of(100, 0)}, -1},
		{"nobody repeats elsewhere", []route.Standing{of(100, 60), of(0, 0)}, 0},
		{"a part, and nobody repeats elsewhere", []route.Standing{of(100, 40), of(3, 0)}, -1},
		{"alone", []route.Standing{of(100, 90)}, -1},
		{"on trial half is enough", []route.Standing{trial(of(8, 2)), of(200, 0)}, 0},
		{"not on trial it is not", []route.Standing{of(8, 2), of(200, 0)}, -1},
		{"none", nil, -1},
	} {
		worst, found := route.DefaultOutliers().Outlier(tc.members)
		if !found {
			worst = -1
		}
		if worst != tc.worst {
			t.Errorf("%s: %d is the outlier, want %d", tc.name, worst, tc.worst)
		}
	}
}

// Who fails by chance alone is no outlier: in a simulated month of looks at members of
// one failure rate a few ejections at most, whatever their number.
func TestChanceEjectsNobody(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	o, looks, ejections := route.DefaultOutliers(), 0, 0
	for range 100_000 {
		rate := rng.Float64() * 0.3
		members := make([]route.Standing, 2+rng.IntN(8))
		for i := range members {
			members[i].Calls = 20 + rng.Uint64N(200)
			for range members[i].Calls {
				if rng.Float64() < rate {
					members[i].Failures++
				}
			}
		}
		looks++
		if _, found := o.Outlier(members); found {
			ejections++
		}
	}
	t.Logf("figure: %d of %d looks at members that fail alike find an outlier", ejections, looks)
	if ejections > looks/2000 {
		t.Errorf("%d of %d", ejections, looks)
	}
}

func TestOutlierCapAndRhythm(t *testing.T) {
	o := route.DefaultOutliers()
	for _, tc := range []struct {
		ejected, total int
		room           bool
	}{{0, 2, true}, {1, 2, false}, {1, 10, false}, {1, 19, false}, {1, 20, true}, {2, 29, false}, {2, 30, true}} {
		if got := o.Room(tc.ejected, tc.total); got != tc.room {
			t.Errorf("room for one more than %d of %d: %v", tc.ejected, tc.total, got)
		}
	}
	for random, want := range map[uint64]time.Duration{0: 1600 * time.Millisecond, middle: 2 * time.Second, ^uint64(0): 2400 * time.Millisecond} {
		if got := o.Next(random); (got - want).Abs() > time.Microsecond {
			t.Errorf("random %x: the next look is after %v, want %v", random, got, want)
		}
	}
}

// An outlier is out for longer than who fails in a row, and longer each time: of one
// that fails every second call a probation succeeds as often.
func TestAnOutlierIsOutForLonger(t *testing.T) {
	e, now := route.NewEjector(route.EjectorOptions{}), epoch
	for _, want := range []time.Duration{30, 60, 90, 120} {
		if !e.Eject(now, middle, "half of its calls failed") || e.Eject(now, middle, "") {
			t.Fatal("not ejected once")
		}
		if got := e.Until().Sub(now); got != want*time.Second {
			t.Errorf("ejected for %v, want %v s", got, want)
		}
		if got := e.Reason(); got != "half of its calls failed" {
			t.Errorf("reason %q", got)
		}
		now = e.Until()
		e.Observe(route.Success, now, middle, true)
		now = now.Add(20 * time.Second)
	}
	e.Eject(now, middle, "half of its calls failed")
	e.Observe(route.ServiceFailure, e.Until(), middle, true)
	if got := e.Reason(); !strings.Contains(got, "half of its calls failed, then 1 failed") {
		t.Errorf("after a failed probation: %q", got)
	}
}

// What a fail-back holds back has not shown that it is well.
func TestAFailBackIsNoCalm(t *testing.T) {
	e, now := route.NewEjector(route.EjectorOptions{}), epoch
	fail(e, now, 5)
	now = e.Until()
	e.Observe(route.Success, now, middle, true)
	for range 150 { // a hold-down and a ramp
		now = now.Add(time.Second)
		e.Held(now)
	}
	fail(e, now.Add(59*time.Second), 5)
	if got := e.Until().Sub(now.Add(59 * time.Second)); got != 2*time.Second {
		t.Errorf("the next ejection lasts %v, want that of a second one", got)
	}
}
