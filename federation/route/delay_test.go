package route_test

import (
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// modelled is three clusters of one tier whose terms are known: b is near and thin,
// c farther and wide, d slow.
func modelled() *world {
	w := newWorld()
	for name, rtt := range map[string]time.Duration{"b": 10 * time.Millisecond, "c": 30 * time.Millisecond, "d": 20 * time.Millisecond} {
		c := catalog.ClusterName(name)
		w.peer(name, "gcp", rtt, 4, 4).link(c, func(l *route.LinkEvidence) {
			l.Distance, l.BandwidthOut, l.BandwidthIn = 20*time.Millisecond, 100e6, 100e6
			if name == "b" {
				l.BandwidthOut = 1e6
			}
		})
		processing := 5 * time.Millisecond
		if name == "d" {
			processing = 80 * time.Millisecond
		}
		w.target(c, route.TargetEvidence{Processing: processing})
	}
	return w
}

func TestSizeDecidesWhichLinkIsFaster(t *testing.T) {
	p := modelled().compile()
	for size, want := range map[int64]string{1000: "b", 10_000: "b", 500_000: "c", 50_000_000: "c"} {
		got := count(p, 200, func(r *route.Request) { r.Bytes = size })
		wantShare(t, got, map[string]float64{want: 1}, 0)
	}
}

func TestCallsInFlightWaitForTheLinkAndTheService(t *testing.T) {
	w := modelled()
	p := w.compile()
	predict := func() route.Prediction {
		r := request(0)
		r.Bytes, r.Pin = 1000, "b"
		c, rec := p.Pick(r)
		return c.Predict(&rec)
	}
	alone := predict()
	near(t, "first", alone.First, 10*time.Millisecond+5*time.Millisecond+time.Millisecond)
	w.live.Sizes(billing, "http").Observe(epoch.UnixNano(), 1000, 0)
	last := alone
	for range 64 {
		w.live.Target(target("b")).Begin(epoch.UnixNano())
		p := predict()
		if p.Queueing < last.Queueing || p.First < last.First {
			t.Fatalf("one more call in flight: %+v, before %+v", p, last)
		}
		last = p
	}
	if last.Queueing < 50*time.Millisecond || last.RTT != alone.RTT {
		t.Errorf("64 calls in flight wait %v", last.Queueing)
	}
}

func TestWhatCallsTookCorrectsPredictions(t *testing.T) {
	w := modelled()
	p := w.compile()
	c := w.live.Target(target("b"))
	now := epoch.UnixNano()
	for range 200 { // it takes 30 ms more than its terms say
		r := request(0)
		r.Bytes, r.Pin = 1000, "b"
		choice, rec := p.Pick(r)
		prediction := choice.Predict(&rec)
		c.Correct(now, &prediction, 46*time.Millisecond)
	}
	got := count(p, 100, func(r *route.Request) { r.Bytes = 1000 })
	wantShare(t, got, map[string]float64{"c": 1}, 0)
	got = count(p, 100, func(r *route.Request) { r.Bytes, r.NowNanos = 1000, now+int64(time.Minute) })
	wantShare(t, got, map[string]float64{"b": 1}, 0) // it has faded
}

func TestFailuresAndRefusalsCostTime(t *testing.T) {
	for name, charge := range map[string]func(*route.Counters, int64){
		"failure":   func(c *route.Counters, now int64) { c.End(now, time.Millisecond, false) },
		"refusal":   func(c *route.Counters, now int64) { c.Refuse(now, time.Millisecond, 0) },
		"come back": func(c *route.Counters, now int64) { c.Refuse(now, time.Millisecond, time.Hour) },
	} {
		w := modelled()
		p := w.compile()
		c := w.live.Target(target("b"))
		c.Begin(epoch.UnixNano())
		charge(c, epoch.UnixNano())
		got := count(p, 100, func(r *route.Request) { r.Bytes = 1000 })
		wantShare(t, got, map[string]float64{"c": 1}, 0)
		if most := c.EWMA(epoch.UnixNano()); most > route.MaxRefusal {
			t.Errorf("%s: counts for %v", name, most)
		}
		if c.InFlight() != 0 {
			t.Errorf("%s: %d in flight", name, c.InFlight())
		}
	}
}

// TestReplayHasTheTerms: the very decision is repeated after everything has moved on.
func TestReplayHasTheTerms(t *testing.T) {
	w := modelled()
	p := w.compile()
	sizes := w.live.Sizes(billing, "http")
	for n := range 200 {
		r := request(n)
		r.Bytes = int64(n%3) * 400_000
		sizes.Observe(r.NowNanos, int64(n*5000), int64(n*100))
		c, rec := p.Pick(r)
		c.Counters.Begin(r.NowNanos)
		before := p.Replay(rec)
		prediction := c.Predict(&rec)
		c.Counters.Correct(r.NowNanos, &prediction, time.Duration(n)*time.Millisecond)
		sizes.Observe(r.NowNanos, 1<<30, 1<<30)
		if n%4 == 0 {
			c.Counters.End(r.NowNanos, time.Second, n%8 == 0)
		}
		after := p.Replay(rec)
		if !reflect.DeepEqual(before, after) {
			t.Fatalf("replay %d: %+v, then %+v", n, before.Draws, after.Draws)
		}
		if after.Choice == nil || after.Choice.Cluster != c.Target.Cluster {
			t.Fatalf("replay %d chose %+v, the pick %s", n, after.Choice, c.Target.Cluster)
		}
	}
}

func TestReportsCarryTheForecasts(t *testing.T) {
	w := modelled()
	p := w.compile()
	now := epoch.UnixNano()
	for range 50 {
		r := request(0)
		r.Bytes = 1000
		c, rec := p.Pick(r)
		prediction := c.Predict(&rec)
		c.Counters.Begin(now)
		c.Counters.Correct(now, &prediction, 20*time.Millisecond)
		c.Forecast.Observe(now, &prediction, 20*time.Millisecond)
		c.Forecast.ObserveWhole(now, &prediction, 21*time.Millisecond)
		c.Counters.End(now, 20*time.Millisecond, true)
		c.Sizes.Observe(now, 1000, 5000)
	}
	var report route.Report
	report.At = epoch
	report.Fill(w.evidence, w.live, now)
	var f *route.ForecastReport
	for _, x := range report.Targets {
		if x.Target == target("b") {
			f = x.Forecast
		}
	}
	if f == nil || f.Calls != 50 || f.RelativeError > 0.1 || math.Abs(float64(f.Observed-20*time.Millisecond)) > 1e4 {
		t.Fatalf("the report says %+v", f)
	}
	e, live := route.EvidenceFromReport(&report)
	again := route.Compile(w.table, e, live)
	r := request(3)
	r.Bytes = 1000
	a, b := p.Explain(*r), again.Explain(*r)
	if a.Choice == nil || b.Choice == nil || a.Choice.Cluster != b.Choice.Cluster {
		t.Errorf("the federation explains %+v, the gateway %+v", b.Choice, a.Choice)
	}
}
