package board_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// delaysOf is what beta's gateway says of the service that is billing here.
func delaysOf(processing time.Duration, inFlight uint64) wire.Load {
	return wire.Load{Offers: []wire.ServiceLoad{{Service: "invoices.default", Port: "http", Processing: processing, InFlight: inFlight}}}
}

// TestFarDelaysAreEvidence: what a peer's gateways say of how its endpoints answer is
// evidence of that service there, their mean, for as long as they say it.
func TestFarDelaysAreEvidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t, new(links), nil)
		b.SetTable(table())
		evidence := func() route.TargetEvidence {
			b.Refresh()
			return b.Evidence().Targets[target(billing, "beta")]
		}
		if e := evidence(); e.Processing != 0 || e.Others != 0 {
			t.Fatalf("before a word there is evidence: %+v", e)
		}
		b.TakeDelays("beta", "gw1", delaysOf(20*time.Millisecond, 8))
		b.TakeDelays("beta", "gw2", delaysOf(40*time.Millisecond, 4))
		if e := evidence(); e.Processing != 30*time.Millisecond || e.Others != 12 {
			t.Fatalf("of two gateways: processing %v, others %d; want their mean of 30ms and the sum of 12", e.Processing, e.Others)
		}
		if e := b.Evidence().Targets[target(billing, "gamma")]; e.Processing != 0 {
			t.Fatalf("gamma said nothing, and has %v", e.Processing)
		}

		// This gateway's own calls there are no others'. The count is a mean of the last
		// words: a quarter of the new one.
		own := b.Live().Target(target(billing, "beta"))
		for range 3 {
			own.Begin(0)
		}
		b.TakeDelays("beta", "gw1", delaysOf(20*time.Millisecond, 11))
		if e := evidence(); e.Others != 12 {
			t.Fatalf("with three own calls among eleven others are %d, want 8+4", e.Others)
		}
		b.TakeDelays("beta", "gw1", delaysOf(20*time.Millisecond, 3))
		if e := evidence(); e.Others != 10 { // 8 + (0-8)/4 + 4
			t.Fatalf("others fell to %d, want a quarter of the way to none: 6+4", e.Others)
		}

		time.Sleep(3 * time.Second)
		b.TakeDelays("beta", "gw2", delaysOf(40*time.Millisecond, 4))
		time.Sleep(3 * time.Second)                                                // gw1 said nothing for six
		if e := evidence(); e.Processing != 40*time.Millisecond || e.Others != 3 { // 4-3 own calls, a quarter of the way
			t.Fatalf("after gw1 fell silent: processing %v, others %d; want gw2's 40ms and 3", e.Processing, e.Others)
		}
		time.Sleep(6 * time.Second)
		if e := evidence(); e.Processing != 0 || e.Others != 0 {
			t.Fatalf("after both fell silent there is still %v and %d", e.Processing, e.Others)
		}
	})
}

// TestFarDelaysOfStrangersAreNotKept: nothing is kept of what is not imported, of
// gateways beyond the bound, or before there is a table.
func TestFarDelaysOfStrangersAreNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t, new(links), nil)
		b.TakeDelays("beta", "gw1", delaysOf(time.Millisecond, 1)) // no table: no panic
		b.SetTable(table())
		b.TakeDelays("beta", "gw1", wire.Load{Offers: []wire.ServiceLoad{
			{Service: "ledgers.default", Port: "http", Processing: time.Second},   // not imported
			{Service: "invoices.default", Port: "http"},                           // says nothing
			{Service: "invoices.default", Port: "admin", Processing: time.Second}, // no such port
		}})
		b.TakeDelays("delta", "gw1", delaysOf(time.Second, 1)) // no such peer
		b.Refresh()
		for to, e := range b.Evidence().Targets {
			if e.Processing != 0 {
				t.Errorf("%v has a processing time of %v", to, e.Processing)
			}
		}
		for i := range 100 {
			b.TakeDelays("beta", fmt.Sprintf("gw%d", i), delaysOf(10*time.Millisecond, 1))
		}
		b.Refresh()
		if e := b.Evidence().Targets[target(billing, "beta")]; e.Others > 64 {
			t.Errorf("%d gateways of one cluster are believed, at most 64 are", e.Others)
		}
	})
}

// TestOwnDelaysAreTold: what is measured here of an exported service is told to the
// peers that may call it, and to no others; rows that are there are completed.
func TestOwnDelaysAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t, new(links), nil)
		var l wire.Load
		b.AddDelays(&l, "beta") // before a table
		b.SetTable(table())
		b.AddDelays(&l, "beta")
		if len(l.Offers) != 0 {
			t.Fatalf("nothing was measured, and is told: %+v", l.Offers)
		}
		own := target(web, "alpha")
		b.Live().Forecast(own).Processed(time.Now().UnixNano(), 30*time.Millisecond, 1, 4)
		b.Live().Forecast(target(billing, "beta")).Processed(time.Now().UnixNano(), time.Second, 1, 4) // not ours to tell
		b.Live().Target(own).Begin(0)
		b.AddDelays(&l, "gamma")
		if len(l.Offers) != 0 {
			t.Fatalf("gamma may not call web, and is told: %+v", l.Offers)
		}
		b.AddDelays(&l, "beta")
		if len(l.Offers) != 1 || l.Offers[0].Service != "web.default" || l.Offers[0].Processing != 30*time.Millisecond || l.Offers[0].InFlight != 1 {
			t.Fatalf("beta is told %+v, want web with 30ms and one call", l.Offers)
		}
		l = wire.Load{Offers: []wire.ServiceLoad{{Service: "web.default", Port: "http", Capacity: 7, InFlight: 5}}}
		b.AddDelays(&l, "beta")
		if len(l.Offers) != 1 || l.Offers[0].Capacity != 7 || l.Offers[0].InFlight != 5 || l.Offers[0].Processing != 30*time.Millisecond {
			t.Fatalf("the row that was there became %+v", l.Offers)
		}
		time.Sleep(11 * time.Minute)
		l = wire.Load{}
		if b.AddDelays(&l, "beta"); len(l.Offers) != 0 {
			t.Fatalf("what was measured eleven minutes ago is told: %+v", l.Offers)
		}
	})
}

// TestForecastMetrics: predicted beside observed, with the error, by service and
// cluster; what a table has no more has no series, and beyond a bound they are summed.
func TestForecastMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := prometheus.NewRegistry()
		b := run(t, new(links), r)
		b.SetTable(table())
		now := time.Now().UnixNano()
		f := b.Live().Forecast(target(billing, "beta"))
		f.Observe(now, &route.Prediction{Modelled: true, First: 40 * time.Millisecond}, 50*time.Millisecond)
		f.Observe(now, &route.Prediction{Modelled: true, First: 40 * time.Millisecond}, 20*time.Millisecond)
		f.Observe(now, &route.Prediction{First: 40 * time.Millisecond, Penalty: time.Second}, time.Millisecond) // meant to keep calls off
		want := func(name string, value string) string {
			return "# TYPE isthmus_gateway_delay_" + name + " counter\nisthmus_gateway_delay_" + name + `{cluster="beta",service="billing.default"} ` + value + "\n"
		}
		names := []string{"predictions_total", "predicted_seconds_total", "observed_seconds_total", "error_seconds_total"}
		var text strings.Builder
		for i, v := range []string{"2", "0.08", "0.07", "0.03"} {
			text.WriteString(want(names[i], v))
		}
		for i := range names {
			names[i] = "isthmus_gateway_delay_" + names[i]
		}
		if err := testutil.GatherAndCompare(r, strings.NewReader(withHelp(t, r, text.String())), names...); err != nil {
			t.Fatal(err)
		}

		// One service more than there are series.
		for i := range 1001 {
			g := b.Live().Forecast(target(catalog.MustServiceName(fmt.Sprintf("s%d", i)), "beta"))
			g.Observe(now, &route.Prediction{First: time.Millisecond}, time.Millisecond)
		}
		if n, err := testutil.GatherAndCount(r, names[0]); err != nil || n != 1001 {
			t.Errorf("%d series (%v), want 1,000 and one for the rest", n, err)
		}
		empty := table()
		empty.Version, empty.Services = 2, empty.Services[1:]
		b.SetTable(empty)
		if n, err := testutil.GatherAndCount(r, names[0]); err != nil || n != 0 {
			t.Errorf("%d series of what the table has no more (%v)", n, err)
		}
	})
}

// withHelp adds the help lines that the registry has, which the comparison wants.
func withHelp(t *testing.T, r *prometheus.Registry, text string) string {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		line := "# TYPE " + f.GetName() + " "
		text = strings.Replace(text, line, "# HELP "+f.GetName()+" "+f.GetHelp()+"\n"+line, 1)
	}
	return text
}
