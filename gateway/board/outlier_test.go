package board_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/board"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// calls ends calls at a target, of which every nth fails; 0: none.
func calls(b *board.Board, t route.Target, n, nth int) {
	c := b.Live().Target(t)
	for i := range n {
		ok, now := nth == 0 || i%nth != 0, time.Now().UnixNano()
		c.Begin(now)
		c.End(now, time.Millisecond, ok)
		outcome := route.Success
		if !ok {
			outcome = route.ServiceFailure
		}
		b.Observe(t, nil, outcome, false)
	}
}

// A cluster that comes back and fails calls on its way is held back anew, for longer.
func TestAFailBackIsAbortedByErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		b := run(t, new(links), registry)
		beta, gamma := target(billing, "beta"), target(billing, "gamma")
		settle()
		for range 5 {
			b.Observe(beta, nil, route.ServiceFailure, false)
		}
		settle()
		time.Sleep(time.Until(b.Evidence().Targets[beta].EjectedUntil) + time.Millisecond)
		b.Observe(beta, nil, route.Success, false)
		time.Sleep(10*time.Second + 100*time.Millisecond) // the hold-down
		if w := b.Evidence().Targets[beta].Withheld; w != 0.75 {
			t.Fatalf("before the errors %v is held back", w)
		}
		aborts := func() float64 {
			return testutil.ToFloat64(counter(t, registry, "isthmus_gateway_fail_back_aborts_total"))
		}
		for i := 0; i < 5 && aborts() == 0; i++ {
			calls(b, beta, 10, 3)
			calls(b, gamma, 100, 0)
			time.Sleep(time.Second)
		}
		e := b.Evidence().Targets[beta]
		if e.Withheld != 1 || !e.EjectedUntil.IsZero() || aborts() != 1 {
			t.Fatalf("after errors on the way: %+v, %v aborts", e, aborts())
		}
		time.Sleep(12 * time.Second) // longer than the first hold-down
		if w := b.Evidence().Targets[beta].Withheld; w != 1 {
			t.Errorf("after the time of the first hold-down %v is held back", w)
		}
		time.Sleep(8 * time.Second)
		if w := b.Evidence().Targets[beta].Withheld; w == 1 {
			t.Error("held back for ever")
		}
	})
}

func TestAGrayClusterIsEjected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t, new(links), nil)
		beta, gamma := target(billing, "beta"), target(billing, "gamma")
		began := time.Now()
		for b.Evidence().Targets[beta].EjectedUntil.IsZero() {
			if time.Since(began) > 10*time.Second {
				t.Fatal("not ejected")
			}
			calls(b, beta, 20, 4)
			calls(b, gamma, 5, 0)
			time.Sleep(time.Second)
		}
		e := b.Evidence().Targets[beta]
		if d := time.Until(e.EjectedUntil); d < 10*time.Second || d > 45*time.Second || !strings.Contains(e.Reason, "calls failed in 10s") {
			t.Errorf("ejected for %v: %s", d, e.Reason)
		}
		if g := b.Evidence().Targets[gamma]; !g.EjectedUntil.IsZero() {
			t.Errorf("the other is ejected too: %+v", g)
		}
	})
}

// An endpoint of a cluster that dies fails its share of the calls until the health checks
// of the cluster find it: no reason to leave the cluster.
func TestADeadEndpointIsNoReasonToLeaveItsCluster(t *testing.T) {
	beta, gamma := target(billing, "beta"), target(billing, "gamma")
	ready := func(b *board.Board, n uint32) {
		b.TakeReport("beta", "gw1", wire.Report{Services: []wire.ServiceReport{{Service: "invoices.default", Port: "http", Ready: n, Total: 3}}})
	}
	for _, c := range []struct {
		name  string
		known bool // by a report of beta, 2 s later
		fails time.Duration
		out   bool
	}{
		{"a burst", false, 0, false},
		{"until beta says so", true, 3500 * time.Millisecond, false},
		{"for long", false, 10 * time.Second, true},
		{"for long after beta has said so", true, 15 * time.Second, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := run(t, new(links), nil)
				ready(b, 3)
				settle()
				began := time.Now()
				for time.Since(began) < 20*time.Second && b.Evidence().Targets[beta].EjectedUntil.IsZero() {
					third := 3
					if time.Since(began) > c.fails {
						third = 0
					}
					calls(b, beta, 60, third)
					calls(b, gamma, 60, 0)
					time.Sleep(time.Second)
					if c.known && time.Since(began) >= 2*time.Second {
						ready(b, 2)
					} else {
						ready(b, 3)
					}
				}
				if out := !b.Evidence().Targets[beta].EjectedUntil.IsZero(); out != c.out {
					t.Errorf("ejected: %v after %v: %s", out, time.Since(began), b.Evidence().Targets[beta].Reason)
				}
			})
		})
	}
}

// Slow start counts from the table where nothing else says when an endpoint came, and
// from the end of an ejection.
func TestServiceBeginsWithTheTableOrAProbation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t, new(links), nil)
		settle()
		slow := func(version uint64, ids ...string) *route.Table {
			tb := table()
			tb.Version = version
			tb.Services[1].Endpoints = endpoints(ids...)
			tb.Services[1].Traffic = &policy.Traffic{
				Name: "web", Services: []policy.ServicePattern{"*"}, SlowStart: &policy.SlowStart{WindowSeconds: 30},
				HealthCheck: &policy.HealthCheck{Type: "none"},
			}
			return tb
		}
		b.SetTable(slow(2, "w1", "w2", "w3", "w4"))
		time.Sleep(time.Minute)
		b.SetTable(slow(3, "w1", "w2", "w3", "w4", "w5"))
		came := time.Now()
		time.Sleep(5 * time.Second)
		b.SetTable(slow(4, "w1", "w2", "w3", "w4", "w5"))
		since := func(id string) time.Time { return b.Evidence().Endpoints[webEndpoint(id)].Since }
		if !since("w5").Equal(came) || !since("w1").IsZero() {
			t.Errorf("in service since %v and %v, want %v and ever", since("w5"), since("w1"), came)
		}
		own, w1 := target(web, "alpha"), webEndpoint("w1")
		for range 5 {
			b.Observe(own, &w1, route.ServiceFailure, false)
			b.Observe(own, nil, route.Success, false)
		}
		settle()
		time.Sleep(time.Until(b.Evidence().Endpoints[w1].EjectedUntil) + time.Millisecond)
		b.Observe(own, &w1, route.Success, false)
		if settle(); !since("w1").After(came) {
			t.Errorf("after its ejection in service since %v", since("w1"))
		}
	})
}

// A zone of a peer is out when all of its gateways say so.
func TestAPeersZonesThatAreOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t, new(links), nil)
		settle()
		say := func(gateway, zones string) {
			b.TakeLoad("beta", gateway, wire.Load{Seq: 1, Offers: []wire.ServiceLoad{
				{Service: "invoices.default", Port: "http", ZonesOut: zones}, {Service: "nobody.imports", Port: "http", ZonesOut: "x"},
			}})
			b.Touch()
			settle()
		}
		out := func(zone string) bool {
			return b.Evidence().Zones[route.ZoneKey{Target: target(billing, "beta"), Zone: zone}].Out
		}
		say("g1", "a,b")
		if !out("a") || !out("b") || len(b.Evidence().Zones) != 2 {
			t.Errorf("one gateway says a and b: %v", b.Evidence().Zones)
		}
		if say("g2", "b"); out("a") || !out("b") {
			t.Errorf("the other says b: %v", b.Evidence().Zones)
		}
		if time.Sleep(6 * time.Second); len(b.Evidence().Zones) > 0 {
			t.Errorf("nothing was said for 6 s: %v", b.Evidence().Zones)
		}
	})
}

// counter is the one series of a counter.
func counter(t *testing.T, g prometheus.Gatherer, name string) prometheus.Collector {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "copy"})
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.Metric {
				c.Add(m.GetCounter().GetValue())
			}
		}
	}
	return c
}
