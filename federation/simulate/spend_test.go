package simulate_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/price"
	"github.com/isthmus-mesh/isthmus/federation/pricebook"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/federation/simulate"
)

func book(t *testing.T, lines ...string) *price.Book {
	t.Helper()
	b, err := pricebook.Read("book", []byte("prices:\n  - {valid_from: 2026-01-01, "+strings.Join(lines, "}\n  - {valid_from: 2026-01-01, ")+"}\n"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func priced(rec *simulate.Recording, b *price.Book) *simulate.Recording {
	for i := range rec.Gateways {
		table := rec.Gateways[i].Table
		table.Tariff = b.Tariff(table.Cluster.Locality, price.Sites(table.Peers), rec.At)
	}
	return rec
}

// A hand-worked example: 100 calls a second of 1,000 bytes are 262.8 GB in 730 hours,
// which cost 5.256 $ at 0.02 and 23.652 $ at 0.09.
func TestWhatADeathCosts(t *testing.T) {
	b := book(t, "cloud: aws, direction: egress, per_gb: 0.09", "cloud: aws, direction: egress, peer: aws, per_gb: 0.02", "cloud: gcp, direction: egress, per_gb: 0.12")
	s, row := simulated(t, priced(recording(0), b), resource.SimulateRequest{Down: []string{"north"}})
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-6 {
			t.Errorf("%s: %v dollars a month, want %v", what, got, want)
		}
	}
	near("now", row.SpendBefore, 5.256)
	near("settled", row.SpendSettled, 23.652)
	near("all of it now", s.SpendBefore, 5.256)
	near("all of it settled", s.SpendSettled, 23.652)
	for _, c := range s.Clusters {
		switch c.Cluster {
		case "north":
			near("north", c.SpendBefore-c.SpendSettled, 5.256)
		case "west":
			near("west", c.SpendSettled-c.SpendBefore, 23.652)
		}
	}
	// Other prices are supposed in place of those, and what they do not know is said.
	s, row = simulated(t, priced(recording(0), b), resource.SimulateRequest{Prices: book(t, "cloud: aws, direction: egress, peer: gcp, per_gb: 1")})
	near("by a book that does not know the way", row.SpendSettled, 0)
	if said := strings.Join(s.Unknown, "\n"); !strings.Contains(said, "north: the price book has no price") {
		t.Errorf("not said: %s", said)
	}
	if _, err := simulate.ChangeOf(&resource.SimulateRequest{Prices: &price.Book{Prices: []price.Price{{Cloud: "aws"}}}}); err == nil || !strings.Contains(err.Error(), "price_book.prices[0].direction") {
		t.Errorf("a wrong book: %v", err)
	}
}

// Under a policy that weighs prices, other prices move calls, exactly as a gateway's
// plan of that table would.
func TestOtherPricesMoveCalls(t *testing.T) {
	rec := recording(0)
	g := &rec.Gateways[0]
	g.Table.Peers[1].Locality = catalog.Locality{Cloud: "aws", Region: "us-west-2"}
	g.Report.Clusters[1].RTT = g.Report.Clusters[0].RTT
	for _, c := range []catalog.ClusterName{"north", "west"} {
		g.Report.Targets = append(g.Report.Targets, route.TargetReport{
			Target: route.Target{Service: billing, Port: "http", Cluster: c}, Processing: 5 * time.Millisecond, MeanRequest: 1000, MeanAnswer: 100_000,
		})
	}
	g.Table.Services[0].Traffic = &policy.Traffic{Name: "p", Services: []policy.ServicePattern{"*"}, PriceWeight: 1e5}
	now := book(t, "cloud: aws, direction: egress, per_gb: 0.02", "cloud: aws, region: us-west-2, direction: egress, per_gb: 0.5")
	then := book(t, "cloud: aws, direction: egress, per_gb: 0.02", "cloud: aws, region: us-east-2, direction: egress, per_gb: 0.5")
	_, row := simulated(t, priced(rec, now), resource.SimulateRequest{Prices: then})
	want(t, "now", row.Before, map[string]float64{"north": 100})
	want(t, "settled", row.Settled, map[string]float64{"west": 100})
	e, live := route.EvidenceFromReport(g.Report)
	table := *g.Table
	table.Tariff = then.Tariff(table.Cluster.Locality, price.Sites(table.Peers), rec.At)
	plan := route.Compile(&table, e, live)
	for i := range 1000 {
		if c, _ := plan.Pick(&route.Request{Service: billing, Random: uint64(i) << 54, NowNanos: at.UnixNano()}); c.Target.Cluster != "west" {
			t.Fatalf("a plan sends it to %+v", c.Target)
		}
	}
}

// Half of the capacity is lost at full load: who asked for the least important calls
// loses them, who asked for critical ones none.
func TestWhoWouldShed(t *testing.T) {
	rec := recording(4)
	g := &rec.Gateways[0]
	s := &g.Table.Services[0]
	s.Remote = nil
	s.Traffic = &policy.Traffic{Name: "p", Services: []policy.ServicePattern{"*"}, Capacity: &policy.Capacity{PerEndpoint: 10}}
	// 2,000 calls a second of 15 ms: 30 at once of 38 slots, and 19 of half of them.
	g.Demand = []route.Flow{{Service: billing, Cluster: "east", Calls: 120_000, Answered: 120_000, AnsweredTotal: 120_000 * 15 * time.Millisecond}}
	for _, a := range []struct {
		caller   string
		priority route.Priority
		calls    uint64
	}{{"spiffe://td/web", route.PriorityCritical, 18_000}, {"spiffe://td/web", route.PriorityDefault, 42_000}, {"spiffe://td/batch", route.PriorityLow, 60_000}} {
		g.Askers = append(g.Askers, route.Asker{Service: billing, Caller: a.caller, Priority: a.priority, Calls: a.calls})
	}
	g.Report.Ports = []route.PortReport{{PortKey: route.PortKey{Service: billing, Port: "http"}, PortDemand: route.PortDemand{
		Own:  route.ByPriority{route.PriorityCritical: 4.5, route.PriorityDefault: 10.5, route.PriorityLow: 15},
		Rate: route.ByPriority{route.PriorityCritical: 300, route.PriorityDefault: 700, route.PriorityLow: 1000},
	}}}
	out, row := simulated(t, rec, resource.SimulateRequest{Capacity: []string{"east=50%"}})
	lost, all := map[string]float64{}, 0.0
	for _, x := range row.Shed {
		lost[x.Caller+" "+x.Priority] = x.Settled
		all += x.PerSecond * x.Settled / 100
		if x.Before > 1 {
			t.Errorf("%+v is shed now", x)
		}
	}
	if lost["spiffe://td/web critical"] > 0.2 || lost["spiffe://td/batch low"] < 60 || lost["spiffe://td/batch low"] < lost["spiffe://td/web default"] {
		t.Errorf("lost: %v", lost)
	}
	// 19 slots carry at most 19/15 ms = 1,267 calls a second; up to 5 of them are kept for
	// critical calls, which want 4.5, so that default ones fill 14: 933.
	if carried := 2000 - all; carried < 800 || carried > 1267 {
		t.Errorf("%.0f calls a second are carried", carried)
	}
	if !strings.Contains(breaks(out), "shed") {
		t.Errorf("breaks: %+v", out.Breaks)
	}
	// Without the callers it is told by priority alone.
	g.Askers = nil
	_, row = simulated(t, rec, resource.SimulateRequest{Capacity: []string{"east=50%"}})
	if len(row.Shed) == 0 || row.Shed[0].Caller != "" || row.Shed[0].Priority != "low" {
		t.Errorf("%+v", row.Shed)
	}
}

// A peer that has spare capacity is asked for more of it than it grants now.
func TestSpareCapacityIsGrantedOnceItIsAskedFor(t *testing.T) {
	rec := recording(0)
	g := &rec.Gateways[0]
	g.Demand[0].AnsweredTotal = 6000 * 100 * time.Millisecond // 10 at once
	for _, c := range []catalog.ClusterName{"north", "west"} {
		g.Report.Targets = append(g.Report.Targets, route.TargetReport{
			Target: route.Target{Service: billing, Port: "http", Cluster: c}, Reported: true, Ready: 4, Total: 4, ReportedAt: at,
			Room: &route.TargetCapacity{Capacity: 40, Spare: 30, Granted: map[catalog.ClusterName]uint64{"north": 20, "west": 2}[c], GrantedUntil: at.Add(time.Second)},
		})
	}
	_, row := simulated(t, rec, resource.SimulateRequest{Down: []string{"north"}})
	if got := shares(row.AtOnce)["shed"]; got < 50 {
		t.Errorf("at once, with two slots for ten calls: %v", shares(row.AtOnce))
	}
	if got := shares(row.Settled)["shed"]; got > 1 {
		t.Errorf("settled: %v", shares(row.Settled))
	}
	_, row = simulated(t, rec, resource.SimulateRequest{Down: []string{"north"}, Capacity: []string{"west=10%"}})
	if got := shares(row.Settled)["shed"]; got < 50 {
		t.Errorf("with a tenth of the capacity: %v", shares(row.Settled))
	}
}

// A peer's own low calls give way to critical ones: what it grants these beyond the others
// is theirs alone in a simulation, too.
func TestCriticalCallsAreGrantedMore(t *testing.T) {
	rec := recording(0)
	g := &rec.Gateways[0]
	g.Demand[0].AnsweredTotal = 6000 * 100 * time.Millisecond // 10 at once
	for _, a := range []struct {
		priority route.Priority
		calls    uint64
	}{{route.PriorityCritical, 1800}, {route.PriorityLow, 4200}} {
		g.Askers = append(g.Askers, route.Asker{Service: billing, Caller: "spiffe://td/" + a.priority.String(), Priority: a.priority, Calls: a.calls})
	}
	for _, c := range []catalog.ClusterName{"north", "west"} {
		room := &route.TargetCapacity{Capacity: 40, Spare: 30, Granted: 30, GrantedUntil: at.Add(time.Second)}
		if c == "west" {
			room = &route.TargetCapacity{Capacity: 40, Spare: 2, Granted: 1, SpareCritical: 30, GrantedCritical: 2, GrantedUntil: at.Add(time.Second)}
		}
		g.Report.Targets = append(g.Report.Targets, route.TargetReport{
			Target: route.Target{Service: billing, Port: "http", Cluster: c}, Reported: true, Ready: 4, Total: 4, ReportedAt: at, Room: room,
		})
	}
	_, row := simulated(t, rec, resource.SimulateRequest{Down: []string{"north"}})
	lost := map[string]resource.SimulatedShed{}
	for _, x := range row.Shed {
		lost[x.Priority] = x
	}
	if c, l := lost["critical"], lost["low"]; c.AtOnce < 20 || c.Settled > 0.5 || l.AtOnce < 80 || l.Settled < 60 {
		t.Errorf("critical %+v, low %+v", c, l)
	}
}

func breaks(s *resource.Simulation) string {
	data, err := json.Marshal(s.Breaks)
	if err != nil {
		return err.Error()
	}
	return string(data)
}
