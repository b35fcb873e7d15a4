package route_test

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// A zone that is ejected is left by own callers, whose place it is, and by peers; a
// probation of it goes to one of its endpoints.
func TestAnEjectedZone(t *testing.T) {
	w := newWorld().local("az1", 2).local("az2", 2).peer("b", "aws/us-east-1", time.Millisecond, 2, 2)
	w.service().ExportedTo = []catalog.ClusterName{"b"}
	w.evidence.Zones = map[route.ZoneKey]route.ZoneEvidence{
		{Target: target("aws-east"), Zone: "az1"}: {EjectedUntil: epoch.Add(time.Minute), Reason: "30 of 100 calls failed"},
	}
	p := w.compile()
	for i := range 1000 {
		r := request(i)
		near, _ := p.Pick(r)
		far, _ := p.PickLocal(r)
		for side, c := range map[string]route.Choice{"near": near, "far": far} {
			if c.Status != route.OK || c.Endpoint == nil || c.Endpoint.Locality.Zone != "az2" {
				t.Fatalf("%s: %s, %+v", side, c.Status, c.Endpoint)
			}
		}
	}
	for r := range p.Readiness() {
		if r.Ready != 2 || r.Total != 4 {
			t.Errorf("peers are told of %d of %d", r.Ready, r.Total)
		}
	}
	l := p.Explain(*request(0))
	found := false
	for _, x := range l.Excluded {
		found = found || x.Zone == "az1" && x.Endpoint == "" && x.Reason == route.Ejected && x.Evidence == "30 of 100 calls failed"
	}
	if !found {
		t.Errorf("the ledger does not say why az1 is out: %+v", l.Excluded)
	}
	// Its time is over: one call of many tries it, on one of its endpoints.
	probes := 0
	for i := range 100 {
		r := request(i)
		r.NowNanos = epoch.Add(61 * time.Second).UnixNano()
		if c, _ := p.Pick(r); c.Mode == route.Probation {
			probes++
			if c.Endpoint == nil || c.Endpoint.Locality.Zone != "az1" {
				t.Errorf("the probation goes to %+v", c.Endpoint)
			}
		}
	}
	if probes != 1 {
		t.Errorf("%d probations", probes)
	}
	// Keys see one zone: an ejection of one is none of theirs.
	w.policy(policy.Traffic{Algorithm: policy.Maglev, Sticky: []policy.StickyKey{{Header: "x"}}})
	zones := map[string]bool{}
	for i := range 200 {
		r := request(i)
		r.Hash = uint64(i)*0x9e3779b97f4a7c15 + 1
		if c, _ := w.compile().Pick(r); c.Endpoint != nil {
			zones[c.Endpoint.Locality.Zone] = true
		}
	}
	if len(zones) != 2 {
		t.Errorf("by keys calls go to %v", zones)
	}
}

// A peer's zone that its gateways leave out does not make the peer near.
func TestAPeersZoneThatIsOut(t *testing.T) {
	w := everywhere()
	if got, want := shape(w.compile().Explain(*request(0))), "aws-east/az1 | samezone/az1 | aws-east/az2 | sameregion | samecloud | near | far"; got != want {
		t.Fatalf("tiers are %s", got)
	}
	w.evidence.Zones = map[route.ZoneKey]route.ZoneEvidence{{Target: target("samezone"), Zone: "az1"}: {Out: true}}
	l := w.compile().Explain(*request(0))
	if got, want := shape(l), "aws-east/az1 | aws-east/az2 | sameregion,samezone | samecloud | near | far"; got != want {
		t.Errorf("tiers are %s, want %s", got, want)
	}
}

// What a gateway knows of zones is in its report.
func TestZonesAreReported(t *testing.T) {
	e := &route.Evidence{Zones: map[route.ZoneKey]route.ZoneEvidence{
		{Target: target("b"), Zone: "b1"}:         {Out: true},
		{Target: target("aws-east"), Zone: "az1"}: {EjectedUntil: epoch, Reason: "so"},
	}}
	var r route.Report
	r.Fill(e, route.NewLive(), epoch.UnixNano())
	back, _ := route.EvidenceFromReport(&r)
	if len(back.Zones) != 2 || len(r.Zones) != 2 || r.Zones[0].Cluster != "aws-east" {
		t.Fatalf("%+v", r.Zones)
	}
	for k, z := range e.Zones {
		if back.Zones[k] != z {
			t.Errorf("%+v came back as %+v", z, back.Zones[k])
		}
	}
}
