package route_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// priced gives a peer's path a price, both ways the same.
func (w *world) priced(c catalog.ClusterName, out, in float64) *world {
	if w.table.Tariff == nil {
		w.table.Tariff = new(route.Tariff)
	}
	t := w.table.Tariff
	t.Paths = append(t.Paths, route.PathPrice{
		Cluster: c, Out: []route.PriceStep{{PerGB: out}}, In: []route.PriceStep{{PerGB: in}},
	})
	return w
}

// twoPrices are two clusters of equal delay, of which c is cheaper by 0.09 $/GB.
func twoPrices(weight float64) *world {
	w := newWorld().peer("b", "gcp/x", 20*time.Millisecond, 4, 4).peer("c", "gcp/y", 20*time.Millisecond, 4, 4).
		priced("b", 0.1, 0.1).priced("c", 0.01, 0.01).policy(policy.Traffic{PriceWeight: weight})
	for _, c := range []catalog.ClusterName{"b", "c"} {
		w.target(c, route.TargetEvidence{Processing: 10 * time.Millisecond})
	}
	return w
}

func megabyte(r *route.Request) { r.Bytes = 1_000_000 }

func TestTheCheaperOfEqualsTakesTheCalls(t *testing.T) {
	if err := twoPrices(100).table.Validate(); err != nil {
		t.Fatal(err)
	}
	wantShare(t, count(twoPrices(100).compile(), 2000, megabyte), map[string]float64{"c": 1}, 0)
	// Of a weight of 0 prices do not count, nor where nobody knows how large calls are.
	wantShare(t, count(twoPrices(0).compile(), 2000, megabyte), map[string]float64{"b": 0.5, "c": 0.5}, 0.05)
	wantShare(t, count(twoPrices(100).compile(), 2000, nil), map[string]float64{"b": 0.5, "c": 0.5}, 0.05)
}

// A hand-worked example: a request of 1 MB is cheaper at c by 0.001 GB x 0.09 $ =
// 0.00009 $. At 100 seconds a dollar that is worth 9 ms: c may be 8 ms slower, but not
// 10 ms.
func TestHowMuchDelayADollarIsWorth(t *testing.T) {
	for slower, want := range map[time.Duration]string{8 * time.Millisecond: "c", 10 * time.Millisecond: "b"} {
		w := twoPrices(100)
		w.target("c", route.TargetEvidence{Processing: 10*time.Millisecond + slower})
		wantShare(t, count(w.compile(), 500, megabyte), map[string]float64{want: 1}, 0)
	}
}

func TestALedgerShowsThePriceAsATermOfItsOwn(t *testing.T) {
	plan := twoPrices(100).compile()
	r := request(1)
	r.Bytes = 1_000_000
	choice, rec := plan.Pick(r)
	if p := choice.Price(); !p.Known || p.Out != 0.01 {
		t.Errorf("price of the choice %+v", p)
	}
	with := choice.Predict(&rec)
	plain, other := twoPrices(0).compile().Pick(r)
	if without := plain.Predict(&other); with.Whole != without.Whole {
		t.Errorf("predicted %v with a price and %v without: a price is no delay", with.Whole, without.Whole)
	}
	l := plan.Replay(rec)
	if l.Policy.PriceWeight != 100 || l.Policy.Saving {
		t.Errorf("policy %+v", l.Policy)
	}
	for _, c := range l.Tiers[0].Candidates {
		want := map[catalog.ClusterName]time.Duration{"b": 10 * time.Millisecond, "c": time.Millisecond}[c.Cluster]
		if c.Score == nil || math.Abs(float64(c.Score.Price-want)) > 1e3 || c.Price == nil || !c.Price.Known {
			t.Errorf("%s: score %+v, price %+v, want %v", c.Cluster, c.Score, c.Price, want)
		}
	}
	if !strings.Contains(l.Why, "price of its bytes") {
		t.Errorf("why: %s", l.Why)
	}
}

// Saving puts the budget's weight in force, if it is greater.
func TestABudgetRaisesTheWeight(t *testing.T) {
	w := twoPrices(0)
	w.service().Traffic.Budget = &policy.Budget{Monthly: 1, Save: &policy.Saving{PriceWeight: 100}}
	wantShare(t, count(w.compile(), 1000, megabyte), map[string]float64{"b": 0.5, "c": 0.5}, 0.06)
	w.table.Tariff.Saving = []catalog.ServiceName{billing}
	wantShare(t, count(w.compile(), 1000, megabyte), map[string]float64{"c": 1}, 0)
	w.service().Traffic.PriceWeight = 1000
	if _, saved := w.service().Traffic.PriceWeightIn(true); saved {
		t.Error("a budget lowers the weight")
	}
}

func TestZonesAndUnknownPaths(t *testing.T) {
	w := newWorld().local("az1", 1).local("az2", 1).peer("b", "aws/us-east-1", time.Millisecond, 2, 2).peer("c", "gcp/x", 20*time.Millisecond, 2, 2)
	w.table.Tariff = &route.Tariff{
		Zones: []route.PriceStep{{PerGB: 0.02}},
		Paths: []route.PathPrice{{Cluster: "b", Zonal: true, Out: []route.PriceStep{{PerGB: 0.02}}, In: []route.PriceStep{{PerGB: 0.02}}}},
	}
	if err := w.table.Validate(); err != nil {
		t.Fatal(err)
	}
	price := func() map[string]route.Price {
		out := map[string]route.Price{}
		for _, tier := range w.compile().Explain(*request(1)).Tiers {
			for _, c := range tier.Candidates {
				out[string(c.Cluster)+" "+c.Zone] = *c.Price
			}
		}
		return out
	}
	free, zonal := route.Price{Known: true}, route.Price{Out: 0.02, In: 0.02, Known: true}
	for name, want := range map[string]route.Price{string(own) + " az1": free, string(own) + " az2": zonal, "b ": zonal, "c ": {}} {
		if got := price()[name]; got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	w.service().Remote[0].Rows[0].Zone = "az1" // it has endpoints in the gateway's zone
	if got := price()["b az1"]; got != free {
		t.Errorf("in the same zone: %+v", got)
	}
}

// A plan that takes over what did not change takes no old price over.
func TestPricesThatChangeAreCompiledAnew(t *testing.T) {
	w := twoPrices(100)
	w.table.Tariff.Paths[1].Out = append(w.table.Tariff.Paths[1].Out, route.PriceStep{From: epoch.Add(time.Hour), PerGB: 1})
	plan := w.compile()
	wantShare(t, count(plan, 200, megabyte), map[string]float64{"c": 1}, 0)
	later := *w.evidence
	later.Now = epoch.Add(time.Hour)
	again := route.Recompile(plan, w.table, &later, w.live)
	wantShare(t, count(again, 200, megabyte), map[string]float64{"b": 1}, 0)
	table := *w.table
	table.Tariff = &route.Tariff{Paths: []route.PathPrice{{Cluster: "b", Out: []route.PriceStep{{PerGB: 2}}}, {Cluster: "c"}}}
	later.Now = epoch.Add(2 * time.Hour)
	wantShare(t, count(route.Recompile(again, &table, &later, w.live), 200, megabyte), map[string]float64{"c": 1}, 0)
}

func TestABadTariffIsRefused(t *testing.T) {
	for name, break_ := range map[string]func(*route.Tariff){
		"unknown peer": func(t *route.Tariff) { t.Paths[0].Cluster = "nobody" },
		"not a number": func(t *route.Tariff) { t.Paths[0].Out[0].PerGB = math.NaN() },
		"negative":     func(t *route.Tariff) { t.Paths[0].In[0].PerGB = -1 },
		"out of order": func(t *route.Tariff) { t.Paths[0].In = append(t.Paths[0].In, route.PriceStep{PerGB: 1}) },
		"twice":        func(t *route.Tariff) { t.Paths[1] = t.Paths[0] },
	} {
		w := twoPrices(1)
		break_(w.table.Tariff)
		if w.table.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// The dearer a cluster gets, the fewer calls it gets; and a tariff that is read back
// decides alike.
func TestCallsFallWithThePrice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weight := rapid.Float64Range(0, 1000).Draw(t, "weight")
		size := rapid.Int64Range(0, 10_000_000).Draw(t, "size")
		low := rapid.Float64Range(0, 1).Draw(t, "low")
		more := rapid.Float64Range(0, 1).Draw(t, "more")
		at := func(b float64) int {
			w := newWorld().peer("b", "gcp/x", 20*time.Millisecond, 4, 4).peer("c", "gcp/y", 20*time.Millisecond, 4, 4).
				priced("b", b, b).priced("c", 0.1, 0.1).policy(policy.Traffic{PriceWeight: weight})
			raw, err := json.Marshal(w.table.Tariff)
			if err != nil {
				t.Fatal(err)
			}
			again := new(route.Tariff)
			if err := json.Unmarshal(raw, again); err != nil || !again.Equal(w.table.Tariff) {
				t.Fatalf("%v: %+v is %+v", err, w.table.Tariff, again)
			}
			w.table.Tariff = again
			for _, c := range []catalog.ClusterName{"b", "c"} {
				w.target(c, route.TargetEvidence{Processing: 10 * time.Millisecond})
			}
			return count(w.compile(), 50, func(r *route.Request) { r.Bytes = size })["b"]
		}
		if cheap, dear := at(low), at(low+more); dear > cheap {
			t.Fatalf("%d calls at %v, %d at %v", cheap, low, dear, low+more)
		}
	})
}

func TestAPickWithPricesAllocatesNothing(t *testing.T) {
	plan := twoPrices(100).compile()
	r := request(1)
	r.Bytes = 1_000_000
	if n := testing.AllocsPerRun(1000, func() { plan.Pick(r) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
