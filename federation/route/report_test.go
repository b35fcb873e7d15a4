package route_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"pgregory.net/rapid"
)

// A federation that compiles by what a gateway reported decides as the gateway
// does: the same ledger, through JSON.
func TestReportCarriesAllThatADecisionRests(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		if w.service().Traffic != nil && w.service().Traffic.Algorithm == policy.RoundRobin {
			w.service().Traffic.Algorithm = policy.Random // positions are not reported
		}
		var r route.Report
		r.At, r.Locality = w.evidence.Now, w.evidence.Self
		r.Fill(w.evidence, w.live, epoch.UnixNano())
		wire, err := json.Marshal(&r)
		if err != nil {
			t.Fatal(err)
		}
		var back route.Report
		if err := json.Unmarshal(wire, &back); err != nil {
			t.Fatal(err)
		}
		e, live := route.EvidenceFromReport(&back)
		here, there := w.compile(), route.Compile(w.table, e, live)
		for range 10 {
			req := *drawRequest(t, w)
			req.NowNanos = epoch.UnixNano()
			if a, b := text(t, here.Explain(req)), text(t, there.Explain(req)); a != b {
				t.Fatalf("the gateway's ledger is\n%s, the federation's\n%s", a, b)
			}
		}
	})
}

func TestReportWithoutClustersIsReadByItsLinks(t *testing.T) {
	e, _ := route.EvidenceFromReport(&route.Report{At: epoch, Links: []route.LinkReport{
		{Cluster: "b", Gateway: "gw1", State: "down"},
		{Cluster: "b", Gateway: "gw2", State: "up", RTT: 30 * time.Millisecond},
		{Cluster: "b", Gateway: "gw3", State: "up", RTT: 20 * time.Millisecond, Loss: 0.1},
		{Cluster: "c", Gateway: "gw1", State: "draining"},
		{Cluster: "d", Gateway: "", State: "connecting"},
	}})
	for c, want := range map[catalog.ClusterName]route.LinkEvidence{
		"b": {Up: true, RTT: 20 * time.Millisecond, Loss: 0.1}, "c": {Draining: true}, "d": {},
	} {
		if got := e.Links[c]; got != want {
			t.Errorf("%s: %+v, want %+v", c, got, want)
		}
	}
}

func TestReportLeavesOutWhatWasNeverUsed(t *testing.T) {
	w := newWorld().local("az1", 3).peer("b", "gcp", time.Millisecond, 1, 1)
	w.compile() // makes counters of everything
	w.live.Endpoint(endpointKey("az1-1")).Begin(0)
	var r route.Report
	r.Fill(w.evidence, w.live, epoch.UnixNano())
	if len(r.Targets) != 0 || len(r.Endpoints) != 1 || r.Endpoints[0].Known || len(r.Clusters) != 1 {
		t.Errorf("the report has %+v", r)
	}
}

func TestReadinessCountsWhatPeersMayBeTold(t *testing.T) {
	w := newWorld().local("az1", 3).local("az2", 2).sick("az1-0")
	w.service().Endpoints[4].Quarantined = true
	for range w.compile().Readiness() {
		t.Error("a service that is exported to nobody is told")
	}
	w.service().ExportedTo = []catalog.ClusterName{"b"}
	n := 0
	for r := range w.compile().Readiness() {
		n++
		if r.Target != target(own) || r.Ready != 3 || r.Total != 4 {
			t.Errorf("%+v", r)
		}
	}
	if n != 1 {
		t.Errorf("%d ports are told", n)
	}
}
