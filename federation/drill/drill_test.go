package drill_test

import (
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/drill"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/federation/simulate"
)

var (
	billing = catalog.MustServiceName("billing.default")
	at      = time.Unix(1_800_000_000, 0).UTC()
	east    = catalog.Locality{Cloud: "aws", Region: "us-east-1"}
)

// recording is of cluster east, with billing in two of its zones, in north (near) and in
// west (far, in two zones), called 100 times a second for a minute.
func recording(traffic *policy.Traffic) *simulate.Recording {
	ports := []catalog.Port{{Name: "http", Protocol: catalog.HTTP}}
	s := route.Service{Name: billing, Ports: ports, Traffic: traffic}
	for i, zone := range []string{"a", "a", "b", "b"} {
		s.Endpoints = append(s.Endpoints, catalog.Endpoint{
			ID: string(rune('a' + i)), Port: "http", Weight: 1, Health: catalog.Passing, Locality: east.WithZone(zone),
			Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 80),
		})
	}
	t := &route.Table{
		Format: route.MinTableFormat, Epoch: 1, Version: 1, Federation: "127.0.0.1:7483",
		Cluster: route.Cluster{Name: "east", ID: "spiffe://td/isthmus/cluster/east", Locality: east},
	}
	r := &route.Report{Gateway: catalog.Gateway{Name: "gw-1"}, At: at, Epoch: 1, Version: 1, StartedAt: at.Add(-time.Hour), Locality: east.WithZone("a")}
	for _, p := range []struct {
		name  catalog.ClusterName
		place catalog.Locality
		rtt   time.Duration
		rows  []catalog.SummaryRow
	}{
		{"north", catalog.Locality{Cloud: "aws", Region: "us-east-2"}, 10 * time.Millisecond, []catalog.SummaryRow{{Port: "http", Ready: 4, Total: 4}}},
		{"west", catalog.Locality{Cloud: "gcp", Region: "us-central1"}, 30 * time.Millisecond, []catalog.SummaryRow{
			{Port: "http", Zone: "x", Ready: 2, Total: 2}, {Port: "http", Zone: "y", Ready: 2, Total: 2},
		}},
	} {
		t.Peers = append(t.Peers, route.Peer{Name: p.name, ID: "spiffe://td/isthmus/cluster/" + string(p.name), Locality: p.place})
		s.Remote = append(s.Remote, route.Remote{Cluster: p.name, Name: billing, Ports: ports, Rows: p.rows})
		r.Clusters = append(r.Clusters, route.ClusterReport{Cluster: p.name, LinkEvidence: route.LinkEvidence{Up: true, RTT: p.rtt, Since: at.Add(-time.Hour)}})
	}
	t.Services = []route.Service{s}
	return &simulate.Recording{Version: simulate.RecordingVersion, At: at, Gateways: []simulate.Gateway{{
		Table: t, Report: r, Window: time.Minute,
		Demand: []route.Flow{{Service: billing, Cluster: "east", Calls: 6000, Answered: 6000, AnsweredTotal: 6000 * 5 * time.Millisecond, Sent: 6_000_000}},
	}}}
}

func order(t *testing.T, r resource.DrillRequest) drill.Order {
	t.Helper()
	r.Share, r.For = "5%", "1m"
	o, err := drill.OrderOf(&r)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// observed drills all calls of a recording by the very decisions of a gateway.
func observed(rec *simulate.Recording, o *drill.Order, down []catalog.ClusterName, n int) []route.DrillRow {
	table := *rec.Gateways[0].Table
	table.Drill = &route.Drill{ID: "d", Down: down, Zones: o.Zones, AtOnce: o.AtOnce, Share: 10_000, Until: at.Add(time.Minute), For: time.Minute}
	evidence, live := route.EvidenceFromReport(rec.Gateways[0].Report)
	live.Drills("d", time.Time{})
	plan := route.Compile(&table, evidence, live)
	rows := make(map[route.DrillRow]uint64)
	for i := range n {
		c, _ := plan.Pick(&route.Request{Service: billing, Random: uint64(i+1) * 0x9e3779b97f4a7c15, NowNanos: at.UnixNano()})
		rows[route.DrillRow{Service: billing, Port: "http", Side: c.Drill, Cluster: c.Target.Cluster, Spared: c.Spared}]++
	}
	var out []route.DrillRow
	for r, calls := range rows {
		r.Calls, r.Answered, r.AnsweredTotal = calls, calls, time.Duration(calls)*20*time.Millisecond
		out = append(out, r)
	}
	return out
}

// What is predicted of an order by simulations is what decisions do: two ways to work out
// the same, for each kind of loss.
func TestPredictedIsWhatIsDecided(t *testing.T) {
	weights := &policy.Traffic{Name: "w", Services: []policy.ServicePattern{"*"}, Weights: map[catalog.ClusterName]uint32{"east": 70, "north": 20, "west": 10}}
	zone := func(s string) []string { return []string{s} }
	for name, tt := range map[string]struct {
		traffic *policy.Traffic
		request resource.DrillRequest
		want    map[catalog.ClusterName]float64
	}{
		"the own cluster":          {nil, resource.DrillRequest{Down: []string{"east"}}, map[catalog.ClusterName]float64{"north": 100}},
		"own and nearest":          {nil, resource.DrillRequest{Down: []string{"aws"}}, map[catalog.ClusterName]float64{"west": 100}},
		"of weights":               {weights, resource.DrillRequest{Down: []string{"east"}}, map[catalog.ClusterName]float64{"north": 66.7, "west": 33.3}},
		"a peer, of weights":       {weights, resource.DrillRequest{Down: []string{"aws/us-east-2"}}, map[catalog.ClusterName]float64{"east": 87.5, "west": 12.5}},
		"an own zone":              {nil, resource.DrillRequest{Zones: zone("aws/us-east-1/a")}, map[catalog.ClusterName]float64{"east": 100}},
		"own and a zone of a peer": {weights, resource.DrillRequest{Down: []string{"east", "north"}, Zones: zone("gcp/us-central1/x"), Moment: "at_once"}, nil},
		"everything":               {nil, resource.DrillRequest{Down: []string{"aws", "gcp"}}, map[catalog.ClusterName]float64{"": 100}},
	} {
		t.Run(name, func(t *testing.T) {
			rec, o := recording(tt.traffic), order(t, tt.request)
			down, err := o.Clusters(rec.Gateways[0].Table)
			if err != nil {
				t.Fatal(err)
			}
			s := drill.Predict(rec, &o, down, 1)
			forecasts := drill.ForecastsOf(s, o.Moment(), rec.Gateways[0].Table)
			r := drill.Compare(forecasts, []drill.Account{{Gateway: "gw-1", Rows: observed(rec, &o, down, 4000)}})
			t.Logf("figure: drill of %s: %.2f points", name, r.Error)
			if r.Error > 3 {
				t.Errorf("the split differs by %.1f points: %+v", r.Error, r.Split)
			}
			for _, p := range r.Split {
				if want, ok := tt.want[p.Cluster]; tt.want != nil && (!ok && p.Predicted > 0 || math.Abs(p.Predicted-want) > 2.5) {
					t.Errorf("to %q: predicted %.1f %%, want %.1f", p.Cluster, p.Predicted, want)
				}
			}
			// What it started from is as it was.
			if again := recording(tt.traffic); len(again.Gateways[0].Table.Services[0].Endpoints) != len(rec.Gateways[0].Table.Services[0].Endpoints) ||
				rec.Gateways[0].Table.Services[0].Endpoints[0].Health != catalog.Passing || len(rec.Gateways[0].Table.Services[0].Remote[1].Rows) != 2 {
				t.Error("the recording was changed")
			}
		})
	}
}

func TestTheReport(t *testing.T) {
	other := catalog.MustServiceName("other.default")
	forecasts := []drill.Forecast{
		{Service: billing, Port: "http", Gateway: "g1", PerSecond: 900, Parts: []drill.ForecastPart{{Cluster: "b", Share: 1, Took: 10 * time.Millisecond}}},
		{Service: billing, Port: "http", Gateway: "g2", PerSecond: 100, Parts: []drill.ForecastPart{
			{Cluster: "b", Share: 0.5, Took: 20 * time.Millisecond, Estimated: true}, {Share: 0.5},
		}},
		{Service: other, Port: "http", Gateway: "g1", PerSecond: 50, Parts: []drill.ForecastPart{{Cluster: "c", Share: 1}}},
	}
	row := func(side route.DrillSide, cluster catalog.ClusterName, calls uint64) route.DrillRow {
		return route.DrillRow{Service: billing, Port: "http", Side: side, Cluster: cluster, Calls: calls, Answered: calls, AnsweredTotal: time.Duration(calls) * 12 * time.Millisecond}
	}
	spared := row(route.DrillSpared, "a", 40)
	spared.Spared = "residency"
	failing := row(route.Drilled, "b", 60)
	failing.Failed, failing.Late = 3, 2
	r := drill.Compare(forecasts, []drill.Account{
		{Gateway: "g1", Rows: []route.DrillRow{row(route.Drilled, "b", 100), row(route.DrillControl, "a", 900)}},
		{Gateway: "g2", Rows: []route.DrillRow{failing, spared}},
	})
	// Each gateway's prediction counts by what it drilled: 100 and 100 calls, and not by the
	// demand of then. The service that was not drilled has no part in it.
	if len(r.Services) != 1 || len(r.Split) != 2 || r.Split[0].Cluster != "b" || r.Split[0].Predicted != 75 || r.Split[0].Observed != 80 || r.Error != 5 {
		t.Errorf("%+v", r)
	}
	if p := r.Split[1]; p.Cluster != "" || p.Predicted != 25 || p.Observed != 20 {
		t.Errorf("nowhere: %+v", p)
	}
	if got := r.Split[0].PredictedTook; math.Abs(got.Seconds()-0.0133333) > 1e-5 || !r.Split[0].Estimated {
		t.Errorf("predicted to take %v", got)
	}
	if r.Drilled != (resource.DrillCalls{Calls: 160, Failed: 3, Late: 2, Took: 12 * time.Millisecond}) || r.Others.Calls != 940 ||
		len(r.Spared) != 1 || r.Spared[0] != (resource.DrillSpared{Reason: "residency", Calls: 40}) {
		t.Errorf("%+v", r)
	}
	if r.Noise < 5.9 || r.Noise > 6.1 { // 1.96 x sqrt(0.75 x 0.25 / 200)
		t.Errorf("noise %.2f", r.Noise)
	}
	// Before the first call, all that is called is predicted, by how often it is.
	if r := drill.Compare(forecasts, nil); len(r.Services) != 2 || r.Error != 0 || math.Abs(r.Split[0].Predicted-100*950/1050.0) > 0.01 {
		t.Errorf("%+v", r)
	}
}

func TestWhatCannotBeOrdered(t *testing.T) {
	good := resource.DrillRequest{Down: []string{"west"}, Share: "5%", For: "10m"}
	if o, err := drill.OrderOf(&good); err != nil || o.Share != 500 || o.For != 10*time.Minute || o.Moment() != simulate.Settled {
		t.Fatalf("%+v, %v", o, err)
	}
	for field, change := range map[string]func(*resource.DrillRequest){
		"down":     func(r *resource.DrillRequest) { r.Down = nil },
		"down[0]":  func(r *resource.DrillRequest) { r.Down[0] = "A/b/c" },
		"zones[0]": func(r *resource.DrillRequest) { r.Zones = []string{"aws/us-east-1"} },
		"share":    func(r *resource.DrillRequest) { r.Share = "11%" },
		"for":      func(r *resource.DrillRequest) { r.For = "25h" },
		"moment":   func(r *resource.DrillRequest) { r.Moment = "now" },
	} {
		bad := good
		bad.Down = []string{"west"}
		change(&bad)
		if _, err := drill.OrderOf(&bad); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	for _, share := range []string{"", "0", "NaN", "-1%", "101%", "x%", "1e-9"} {
		bad := good
		bad.Share, bad.Beyond = share, true
		if _, err := drill.OrderOf(&bad); err == nil {
			t.Errorf("a share of %q", share)
		}
	}
	big := good
	big.Share, big.Beyond = "0.5", true
	if o, err := drill.OrderOf(&big); err != nil || o.Share != 5000 {
		t.Errorf("%+v, %v", o, err)
	}
	unknown := order(t, resource.DrillRequest{Down: []string{"mars"}, Zones: []string{"aws/eu/z"}, Services: []catalog.ServiceName{catalog.MustServiceName("no.such")}})
	_, err := unknown.Clusters(recording(nil).Gateways[0].Table)
	for _, field := range []string{"down[0]", "zones[0]", "services[0]"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s is not told: %v", field, err)
		}
	}
}
