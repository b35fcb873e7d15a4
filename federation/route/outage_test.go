package route_test

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/route"
)

// outage plays a gateway in front of two clusters, 1,000 calls a second, on a
// clock of its own: outcomes feed the ejector, its state and the ramp feed the
// evidence, and changes make a new plan, as a gateway's evidence board does.
type outage struct {
	w         *world
	plan      *route.Plan
	ejector   *route.Ejector
	ramp      route.Ramp
	options   route.RampOptions
	plans     int
	ejections int
	random    uint64
	failed    int         // requests that no attempt could save
	probes    int         // to b while it is ejected
	calls     map[int]int // by second
	toB       map[int]int // first attempts, by second
}

func newOutage() *outage {
	o := &outage{
		w:       newWorld().peer("b", "gcp", 5*time.Millisecond, 3, 3).peer("c", "gcp", 60*time.Millisecond, 3, 3),
		ejector: route.NewEjector(route.EjectorOptions{}),
		options: route.RampOptions{Hold: 5 * time.Second, Step: 0.1, Interval: time.Second},
		calls:   map[int]int{}, toB: map[int]int{},
	}
	o.compile(epoch)
	return o
}

func (o *outage) compile(now time.Time) {
	withheld, _ := o.ramp.Withheld(now, o.options)
	te := route.TargetEvidence{EjectedUntil: o.ejector.Until(), Reason: o.ejector.Reason(), Withheld: withheld}
	if o.plan != nil && te == o.w.evidence.Targets[target("b")] {
		return
	}
	o.w.target("b", te)
	o.w.evidence.Now = now
	o.plan = o.w.compile()
	o.plans++
}

// call makes one request with one retry; broken tells whether b fails.
func (o *outage) call(now time.Time, broken bool) {
	second := int(now.Sub(epoch) / time.Second)
	o.calls[second]++
	r := &route.Request{Service: billing, NowNanos: now.UnixNano()}
	for attempt := range 2 {
		o.random += 0x9e3779b97f4a7c15
		r.Random = o.random
		c, _ := o.plan.Pick(r)
		if c.Status != route.OK {
			break
		}
		b := c.Target.Cluster == "b"
		if b && attempt == 0 {
			o.toB[second]++
		}
		if b && c.Mode == route.Probation {
			o.probes++
		}
		ok := !b || !broken
		c.Counters.Begin(r.NowNanos)
		c.Counters.End(r.NowNanos, 20*time.Millisecond, ok)
		if b {
			o.outcome(ok, now)
		}
		if ok {
			return
		}
		r.Tried.Add(c.Target.Cluster, "")
	}
	o.failed++
}

func (o *outage) outcome(ok bool, now time.Time) {
	outcome := route.ServiceFailure
	if ok {
		outcome = route.Success
	}
	if !o.ejector.Observe(outcome, now, o.random, true) {
		return
	}
	if o.ejector.Until().IsZero() {
		o.ramp.Back(now)
	} else {
		o.ramp.Out(now, o.options)
		o.ejections++
	}
	o.compile(now)
}

// b fails for 40 s out of 120. No request is lost, b is left after five
// failures and asked only by probations until it works, and its load returns
// after the hold-down in steps of the ramp.
func TestOutageAndReturn(t *testing.T) {
	o := newOutage()
	const from, until, end = 10, 50, 140
	for ms := range end * 1000 {
		now := epoch.Add(time.Duration(ms) * time.Millisecond)
		if ms%1000 == 0 {
			o.compile(now) // the ramp's steps
		}
		o.call(now, ms >= from*1000 && ms < until*1000)
	}
	if o.failed > 0 {
		t.Errorf("%d requests failed", o.failed)
	}
	share := func(s int) float64 { return float64(o.toB[s]) / float64(o.calls[s]) }
	for s := range from {
		if share(s) != 1 {
			t.Errorf("second %d: b, the nearer, has %.2f", s, share(s))
		}
	}
	if got := o.toB[from]; got > 6 {
		t.Errorf("%d calls went to b in the second in which it broke", got)
	}
	lost := 0
	for s := from + 1; s < until; s++ {
		lost += o.toB[s]
	}
	if lost > 8 || lost != o.probes-1 && lost != o.probes { // the last probation may fall behind the outage
		t.Errorf("%d calls went to b while it was broken, %d probations", lost, o.probes)
	}
	back, full := -1, -1
	for s := until; s < end; s++ {
		if back < 0 && share(s) > 0.05 {
			back = s
		}
		if full < 0 && share(s) == 1 {
			full = s
		}
		if s > until && share(s)-share(s-1) > 0.2 {
			t.Errorf("second %d: b's share jumps from %.2f to %.2f", s, share(s-1), share(s))
		}
	}
	if back < 0 || full < 0 {
		t.Fatalf("b did not come back: %d, %d", back, full)
	}
	if ramp := full - back; ramp < 8 || ramp > 11 {
		t.Errorf("b's share grew for %d s, want about 9", ramp)
	}
	t.Logf("%d probations, back at %d s, full at %d s, %d plans", o.probes, back, full, o.plans)
	if o.plans > 40 {
		t.Errorf("%d plans for one outage", o.plans)
	}
}

// A service that flaps every second is left alone more and more.
func TestFlapping(t *testing.T) {
	o := newOutage()
	for ms := range 600_000 {
		now := epoch.Add(time.Duration(ms) * time.Millisecond)
		if ms%1000 == 0 {
			o.compile(now)
		}
		o.call(now, ms/500%2 == 1)
	}
	if o.failed > 0 {
		t.Errorf("%d of 600000 requests failed", o.failed)
	}
	t.Logf("%d ejections, %d plans in 10 min", o.ejections, o.plans)
	if o.ejections > 20 {
		t.Errorf("%d ejections in 10 min", o.ejections)
	}
}
