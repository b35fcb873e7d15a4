package route_test

import (
	"slices"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// everywhere has own endpoints in two zones and a peer at every distance.
func everywhere() *world {
	return newWorld().local("az1", 2).local("az2", 2).
		peer("samezone", "aws/us-east-1", time.Millisecond, 2, 2).
		peer("sameregion", "aws/us-east-1", time.Millisecond, 2, 2).
		peer("samecloud", "aws/us-west-2", 60*time.Millisecond, 2, 2).
		peer("near", "gcp/us-east4", 8*time.Millisecond, 2, 2).
		peer("far", "gcp/asia-east1", 180*time.Millisecond, 2, 2).
		rows("samezone", catalog.SummaryRow{Port: "http", Zone: "az1", Ready: 1, Total: 1}, catalog.SummaryRow{Port: "http", Zone: "az9", Ready: 1, Total: 1})
}

func (w *world) rows(c catalog.ClusterName, rows ...catalog.SummaryRow) *world {
	for i := range w.service().Remote {
		if r := &w.service().Remote[i]; r.Cluster == c {
			r.Rows = rows
		}
	}
	return w
}

func TestTiersByLocality(t *testing.T) {
	l := everywhere().compile().Explain(*request(0))
	const want = "aws-east/az1 | samezone/az1 | aws-east/az2 | sameregion | samecloud | near | far"
	if got := shape(l); got != want {
		t.Errorf("tiers are\n%s, want\n%s", got, want)
	}
	if got := l.Tiers[0].Load; got != 100 {
		t.Errorf("the nearest tier takes %v %%", got)
	}
}

func TestTheNearestTakesOverAsTheNearerDie(t *testing.T) {
	w := everywhere()
	order := []string{"samezone", "az2", "sameregion", "samecloud", "near", "far"}
	w.sick("az1-0", "az1-1")
	for _, next := range order {
		got := count(w.compile(), 200, nil)
		if next == "az2" {
			wantShare(t, got, map[string]float64{"az2-0": 0.5, "az2-1": 0.5}, 0.15)
			w.sick("az2-0", "az2-1")
			continue
		}
		wantShare(t, got, map[string]float64{next: 1}, 0)
		w.down(catalog.ClusterName(next))
		if next == "samecloud" { // one that stays up, so that nobody suspects itself
			w.peer("witness", "azure", time.Millisecond, 0, 0)
		}
	}
}

func TestUnknownPlacesAreNearerThanPeers(t *testing.T) {
	w := newWorld().peer("peer", "", time.Millisecond, 3, 3)
	w.table.Cluster.Locality, w.evidence.Self = catalog.Locality{}, catalog.Locality{}
	w.local("az1", 1)
	w.service().Endpoints[0].Locality = catalog.Locality{}
	if got := shape(w.compile().Explain(*request(0))); got != "aws-east | peer" {
		t.Errorf("tiers are %s", got)
	}
}

func TestBandsOfDistance(t *testing.T) {
	for _, tt := range []struct {
		name string
		rtt  map[string]int // milliseconds
		want string
	}{
		{"all near", map[string]int{"a": 3, "b": 9, "c": 12}, "a,b,c"},
		{"more than 10 ms apart", map[string]int{"a": 3, "b": 14, "c": 13}, "a,c | b"},
		{"a quarter of the way", map[string]int{"a": 100, "b": 124, "c": 126}, "a,b | c"},
		{"from the nearest, not the next", map[string]int{"a": 10, "b": 19, "c": 28}, "a,b | c"},
		{"not measured is last", map[string]int{"a": 0, "b": 200, "c": 20}, "c | b | a"},
		{"nothing measured", map[string]int{"a": 0, "b": 0}, "a,b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld()
			for name, ms := range tt.rtt {
				w.peer(name, "gcp/"+name, time.Duration(ms)*time.Millisecond, 1, 1)
			}
			if got := shape(w.compile().Explain(*request(0))); got != tt.want {
				t.Errorf("tiers are %s, want %s", got, tt.want)
			}
		})
	}
}

func TestDistanceHoldsAgainstNoise(t *testing.T) {
	var d route.Distance
	now := epoch
	step := func(ms int) time.Duration {
		now = now.Add(200 * time.Millisecond)
		return d.Observe(time.Duration(ms)*time.Millisecond, now)
	}
	if got := step(40); got != 40*time.Millisecond {
		t.Fatalf("the first sample gives %s", got)
	}
	for i := range 1000 { // within 5 ms, and bursts shorter than 3 s
		ms := 36 + i%9
		if i%20 < 14 && i%100 > 50 {
			ms = 90
		}
		if got := step(ms); got != 40*time.Millisecond {
			t.Fatalf("sample %d of %d ms moved it to %s", i, ms, got)
		}
	}
	moved := 0
	for range 20 { // a real change
		if step(90) == 90*time.Millisecond {
			moved++
		}
	}
	if moved != 20-15 { // after 3 s = 15 steps
		t.Errorf("a lasting change was believed for %d of 20 samples, want 5", moved)
	}
	if got := d.Observe(-1, now); got != 90*time.Millisecond || d.Held() != got {
		t.Errorf("a sample below 0 gives %s", got)
	}
}

func TestPolicyShapesTiers(t *testing.T) {
	for _, tt := range []struct {
		name    string
		policy  policy.Traffic
		want    string
		reasons map[string]route.Reason
	}{
		{
			name:   "ordered clusters",
			policy: policy.Traffic{Clusters: []catalog.ClusterName{"far", own, "near"}},
			want:   "far | aws-east/az1 | aws-east/az2 | near",
			reasons: map[string]route.Reason{
				"samezone": route.PolicyClusterList, "sameregion": route.PolicyClusterList, "samecloud": route.PolicyClusterList,
			},
		},
		{
			name:   "a split across tiers shares the best of them",
			policy: policy.Traffic{Weights: map[catalog.ClusterName]uint32{"samecloud": 3, "far": 1, "near": 0}},
			want:   "aws-east/az1 | samezone/az1 | aws-east/az2 | sameregion | far,samecloud",
			reasons: map[string]route.Reason{
				"near": route.PolicyWeightZero,
			},
		},
		{
			name:   "a canary beside the own cluster",
			policy: policy.Traffic{Weights: map[catalog.ClusterName]uint32{own: 9, "far": 1}},
			want:   "aws-east/az1,aws-east/az2,far | samezone/az1 | sameregion | samecloud | near",
		},
		{
			name:   "what shares the place without a weight comes behind",
			policy: policy.Traffic{Clusters: []catalog.ClusterName{"near", "far"}, Weights: map[catalog.ClusterName]uint32{"far": 1}},
			want:   "near | far",
			reasons: map[string]route.Reason{
				"aws-east": route.PolicyClusterList, "samezone": route.PolicyClusterList,
				"sameregion": route.PolicyClusterList, "samecloud": route.PolicyClusterList,
			},
		},
		{
			name:   "pin",
			policy: policy.Traffic{Pin: "near"},
			want:   "near",
			reasons: map[string]route.Reason{
				"aws-east": route.PolicyPin, "samezone": route.PolicyPin, "sameregion": route.PolicyPin,
				"samecloud": route.PolicyPin, "far": route.PolicyPin,
			},
		},
		{
			name:   "no failover",
			policy: policy.Traffic{DisableFailover: true},
			want:   "aws-east/az1",
			reasons: map[string]route.Reason{
				"aws-east": route.PolicyFailoverOff, "samezone": route.PolicyFailoverOff, "sameregion": route.PolicyFailoverOff,
				"samecloud": route.PolicyFailoverOff, "near": route.PolicyFailoverOff, "far": route.PolicyFailoverOff,
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := everywhere().policy(tt.policy).compile().Explain(*request(0))
			if got := shape(l); got != tt.want {
				t.Errorf("tiers are\n%s, want\n%s", got, tt.want)
			}
			got := reasons(l)
			for c, r := range tt.reasons {
				if got[c] != r {
					t.Errorf("%s is excluded by %q, want %q", c, got[c], r)
				}
			}
			if len(got) != len(tt.reasons) {
				t.Errorf("exclusions are %v", got)
			}
		})
	}
}

func TestFailoverOffStaysInTheFirstTierEvenIfItIsDead(t *testing.T) {
	w := newWorld().peer("near", "gcp", 5*time.Millisecond, 3, 3).peer("far", "gcp", 200*time.Millisecond, 3, 3).
		policy(policy.Traffic{DisableFailover: true}).down("near")
	wantShare(t, count(w.compile(), 50, nil), map[string]float64{"no_candidate": 1}, 0)
}

func TestWeightsSplitExactlyAndFollowHealth(t *testing.T) {
	split := policy.Traffic{Weights: map[catalog.ClusterName]uint32{"a": 90, "b": 10}}
	// The number of endpoints does not bend the split.
	w := newWorld().peer("a", "gcp", 10*time.Millisecond, 2, 2).peer("b", "azure", 90*time.Millisecond, 40, 40).policy(split)
	wantShare(t, count(w.compile(), 20_000, nil), map[string]float64{"a": 0.9, "b": 0.1}, 0.01)
	// Half of a's endpoints are left: 90 x 1.4 x 1/2 = 63 against 10.
	w.rows("a", catalog.SummaryRow{Port: "http", Ready: 1, Total: 2})
	wantShare(t, count(w.compile(), 20_000, nil), map[string]float64{"a": 63.0 / 73, "b": 10.0 / 73}, 0.01)
	// The own cluster's weight is for all of its zones.
	w = newWorld().local("az1", 3).local("az2", 1).peer("a", "gcp", time.Millisecond, 1, 1).
		policy(policy.Traffic{Weights: map[catalog.ClusterName]uint32{own: 1, "a": 1}, Algorithm: policy.Random})
	wantShare(t, count(w.compile(), 20_000, nil), map[string]float64{
		"a": 0.5, "az1-0": 0.125, "az1-1": 0.125, "az1-2": 0.125, "az2-0": 0.125,
	}, 0.01)
}

func TestQuarantinedEndpointsAreUsedLast(t *testing.T) {
	w := newWorld().local("az1", 3).peer("far", "gcp", 200*time.Millisecond, 1, 1)
	w.service().Quarantined = []string{"az1-0", "az1-1", "az1-2"}
	p := w.compile()
	if got := shape(p.Explain(*request(0))); got != "far | aws-east" {
		t.Errorf("tiers are %s", got)
	}
	wantShare(t, count(p, 100, nil), map[string]float64{"far": 1}, 0)
	w.peer("other", "azure", time.Millisecond, 0, 0).down("far")
	got := count(w.compile(), 300, nil)
	wantShare(t, got, map[string]float64{"az1-0": 1.0 / 3, "az1-1": 1.0 / 3, "az1-2": 1.0 / 3}, 0.1)
}

func TestPortsAreLookedUpByNameOrDefault(t *testing.T) {
	w := newWorld().local("az1", 1).peer("b", "gcp", time.Millisecond, 1, 1)
	ask := func(port string) route.Status {
		c, _ := w.compile().Pick(&route.Request{Service: billing, Port: port})
		return c.Status
	}
	for port, want := range map[string]route.Status{"": route.OK, "http": route.OK, "grpc": route.UnknownPort} {
		if got := ask(port); got != want {
			t.Errorf("port %q: %s, want %s", port, got, want)
		}
	}
	s := w.service()
	s.Ports = append(s.Ports, catalog.Port{Name: "grpc", Protocol: catalog.GRPC})
	if got := ask(""); got != route.UnknownPort {
		t.Errorf("no port of two: %s", got)
	}
	// Nobody serves grpc: b does not have the port, and the own endpoints serve http.
	c, _ := w.compile().Pick(&route.Request{Service: billing, Port: "grpc"})
	if c.Status != route.NoCandidate {
		t.Errorf("a port that nobody serves: %s", c.Status)
	}
	l := w.compile().Explain(route.Request{Service: billing, Port: "grpc"})
	if got := reasons(l)["b"]; got != route.PortMissing {
		t.Errorf("b is excluded by %q", got)
	}
	if c, _ := w.compile().Pick(&route.Request{Service: catalog.MustServiceName("nobody")}); c.Status != route.UnknownService || c.Traffic == nil {
		t.Errorf("unknown service: %s, traffic %v", c.Status, c.Traffic)
	}
}

func TestRenamedServiceCarriesItsOwnersName(t *testing.T) {
	w := newWorld().peer("b", "gcp", time.Millisecond, 1, 1)
	r := &w.service().Remote[0]
	r.Name = catalog.MustServiceName("invoices.finance")
	r.Ports = []catalog.Port{{Name: "http", Protocol: catalog.GRPC}}
	c, _ := w.compile().Pick(request(0))
	if c.Name != r.Name || c.Target.Service != billing || c.Port.Protocol != catalog.GRPC {
		t.Errorf("the choice is %+v", c)
	}
}

func TestReportGoesBeforeTheSummaryWhileFresh(t *testing.T) {
	w := newWorld().peer("b", "gcp", time.Millisecond, 0, 4).peer("c", "azure", 50*time.Millisecond, 1, 1)
	w.target("b", route.TargetEvidence{Reported: true, Ready: 4, ReportedAt: epoch.Add(-time.Second)})
	wantShare(t, count(w.compile(), 50, nil), map[string]float64{"b": 1}, 0)
	w.target("b", route.TargetEvidence{Reported: true, Ready: 4, ReportedAt: epoch.Add(-route.ReportFresh - 1)})
	wantShare(t, count(w.compile(), 50, nil), map[string]float64{"c": 1}, 0)
	// A report of nothing takes over at once what the summary still promises.
	w.rows("b", catalog.SummaryRow{Port: "http", Ready: 4, Total: 4})
	w.target("b", route.TargetEvidence{Reported: true, ReportedAt: epoch})
	p := w.compile()
	wantShare(t, count(p, 50, nil), map[string]float64{"c": 1}, 0)
	l := p.Explain(*request(0))
	if got := reasons(l)["b"]; got != route.NoReadyEndpoints {
		t.Errorf("b is excluded by %q", got)
	}
	if !slices.Equal(loads(l), []float64{0, 100}) {
		t.Errorf("loads are %v", loads(l))
	}
}
