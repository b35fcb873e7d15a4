package route_test

import (
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// wide is the own cluster in two zones, and a peer in the region, in another region
// and in two other clouds.
func wide() *world {
	return newWorld().local("az1", 2).local("az2", 2).
		peer("near", "aws/us-east-1", time.Millisecond, 4, 4).
		peer("west", "aws/us-west-2", 60*time.Millisecond, 4, 4).
		peer("gcp", "gcp/us-east4", 5*time.Millisecond, 4, 4).
		peer("onprem", "", 30*time.Millisecond, 4, 4)
}

func (w *world) labels(c catalog.ClusterName, labels map[string]string) *world {
	if c == own {
		w.table.Cluster.Labels = labels
	}
	for i := range w.table.Peers {
		if w.table.Peers[i].Name == c {
			w.table.Peers[i].Labels = labels
		}
	}
	return w
}

func TestLabelPriorities(t *testing.T) {
	gold := map[string]string{"tier": "gold", "team": "a"}
	for name, tc := range map[string]struct {
		labels []policy.LabelPriority
		shape  string
		names  string
	}{
		"none matches what is not known": {
			[]policy.LabelPriority{"rack"},
			"aws-east/az1 | aws-east/az2 | near | west | gcp | onprem", "label rack differs, same zone",
		},
		"region before cloud": {
			[]policy.LabelPriority{"region", "cloud"},
			"aws-east/az1 | aws-east/az2 | near | west | gcp | onprem", "all labels match, same zone",
		},
		"an own label before locality": {
			[]policy.LabelPriority{"team", "region"},
			// Those of the own team, nearest first, then the rest.
			"aws-east/az1 | aws-east/az2 | gcp | near | west | onprem", "all labels match, same zone",
		},
		"a value in place of the caller's": {
			[]policy.LabelPriority{"cloud=gcp"},
			"gcp | aws-east/az1 | aws-east/az2 | near | west | onprem", "all labels match, elsewhere",
		},
		"a cluster by name, then the rest by label": {
			[]policy.LabelPriority{"tier=gold", "cluster=onprem"},
			"onprem | gcp | aws-east/az1 | aws-east/az2 | near | west", "all labels match, elsewhere",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := wide().labels(own, map[string]string{"team": "a"}).labels("gcp", gold).labels("onprem", map[string]string{"tier": "gold"})
			l := w.policy(policy.Traffic{LabelPriorities: tc.labels}).compile().Explain(*request(1))
			if got := shape(l); got != tc.shape {
				t.Errorf("tiers\n%s\nwant\n%s", got, tc.shape)
			}
			if !strings.HasPrefix(l.Tiers[0].Name, tc.names) {
				t.Errorf("tier 0 is called %q, want %q", l.Tiers[0].Name, tc.names)
			}
		})
	}
}

// A distribution is what was written, the rest is failover: unlike where unlisted
// localities are taken away.
func TestDistributeTogetherWithFailover(t *testing.T) {
	distribute := []policy.Distribution{
		{From: "*", To: []policy.Share{{Cluster: "onprem", Weight: 1}}},
		{From: "aws/us-east-1", To: []policy.Share{
			{Locality: "aws/us-east-1", Weight: 60}, {Locality: "aws/us-east-1/az2", Weight: 10}, {Cluster: "gcp", Weight: 30}, {Locality: "aws/us-west-2", Weight: 0},
		}},
		{From: "gcp", To: []policy.Share{{Cluster: "west", Weight: 1}}},
	}
	w := func() *world { return wide().policy(policy.Traffic{Distribute: distribute}) }

	l := w().compile().Explain(*request(1))
	if got, want := shape(l), "aws-east/az1,aws-east/az2,gcp,near | onprem"; got != want {
		t.Errorf("tiers %s, want %s", got, want)
	}
	if r := reasons(l)["west"]; r != route.PolicyWeightZero {
		t.Errorf("west is out for %q", r)
	}
	const n = 60_000
	// 60 are divided by 2 ready endpoints of az1 and 4 of near; az2 has its own 10.
	byZone := func(p *route.Plan) map[string]int {
		out := map[string]int{}
		for k, v := range count(p, n, nil) {
			zone, _, _ := strings.Cut(k, "-")
			out[zone] += v
		}
		return out
	}
	wantShare(t, byZone(w().compile()), map[string]float64{"az1": 0.2, "near": 0.4, "az2": 0.1, "gcp": 0.3}, 0.01)

	// A cluster that is out gives its part to the others, in their proportion, and what
	// the tier lacks (1.4 x 8 of 12 endpoints) to the failover.
	const left = 1.4 * 8 / 12
	wantShare(t, byZone(w().down("gcp").compile()), map[string]float64{"az1": left * 2 / 7, "near": left * 4 / 7, "az2": left / 7, "onprem": 1 - left}, 0.01)

	// All that are named are out: what is not named takes over.
	dead := w().down("gcp", "near").sick("az1-0", "az1-1", "az2-0", "az2-1")
	wantShare(t, byZone(dead.compile()), map[string]float64{"onprem": 1}, 0)

	// From a place that no exact entry names.
	elsewhere := w()
	elsewhere.evidence.Self = catalog.Locality{Cloud: "azure", Region: "x", Zone: "y"}
	wantShare(t, byZone(elsewhere.compile()), map[string]float64{"onprem": 1}, 0)
}

func TestDistributeLowersAPartByItsHealth(t *testing.T) {
	w := wide().policy(policy.Traffic{Distribute: []policy.Distribution{
		{From: "*", To: []policy.Share{{Cluster: own, Weight: 50}, {Cluster: "gcp", Weight: 50}}},
	}}).sick("az1-0", "az1-1", "az2-0") // one of four: 1.4 x 25 % of its 50
	got := count(w.compile(), 40_000, nil)
	const left = 1.4 * 5 / 8
	wantShare(t, got, map[string]float64{"az2-1": left * 17.5 / 67.5, "gcp": left * 50 / 67.5, "near": 1 - left}, 0.01)
}

func TestResidencyHoldsWhateverHappens(t *testing.T) {
	stay := policy.Traffic{Residency: &policy.Residency{Regions: []string{"aws/us-east-1"}, Clusters: []catalog.ClusterName{"onprem"}}}
	in := map[string]bool{"near": true, "onprem": true, "az1-0": true, "az1-1": true, "az2-0": true, "az2-1": true}
	later := epoch.Add(-time.Second)
	for name, tc := range map[string]struct {
		change  func(*world)
		request func(*route.Request)
		want    string // a status that all calls have; "" is only places that are allowed
	}{
		"all well":                  {func(*world) {}, nil, ""},
		"the own cluster is sick":   {func(w *world) { w.sick("az1-0", "az1-1", "az2-0", "az2-1") }, nil, ""},
		"panic":                     {func(w *world) { w.sick("az1-0", "az1-1", "az2-0").down("near", "onprem") }, nil, ""},
		"probation elsewhere":       {func(w *world) { w.target("gcp", route.TargetEvidence{EjectedUntil: later}) }, nil, ""},
		"a ramp of those inside":    {func(w *world) { w.target("near", route.TargetEvidence{Withheld: 0.9}) }, nil, ""},
		"pinned to one outside":     {func(*world) {}, func(r *route.Request) { r.Pin = "gcp" }, "residency"},
		"pinned to one inside":      {func(*world) {}, func(r *route.Request) { r.Pin = "near" }, ""},
		"only links outside are up": {func(w *world) { w.sick("az1-0", "az1-1", "az2-0", "az2-1").down("near", "onprem").policyPanicOff() }, nil, "residency"},
		"everything is out": {func(w *world) {
			w.sick("az1-0", "az1-1", "az2-0", "az2-1").down("near", "onprem", "west", "gcp").policyPanicOff()
		}, nil, "suspect"},
		"retries": {func(*world) {}, func(r *route.Request) {
			for _, x := range []string{"near", "onprem"} {
				r.Tried.Add(catalog.ClusterName(x), "")
			}
			r.Tried.Add(own, "")
		}, "exhausted"},
	} {
		t.Run(name, func(t *testing.T) {
			w := wide().policy(stay)
			tc.change(w)
			p := w.compile()
			for word, n := range count(p, 2000, tc.request) {
				switch {
				case tc.want == "suspect" && in[word]: // the last weights, of those inside
				case tc.want == "" && !in[word], tc.want != "" && tc.want != "suspect" && word != tc.want:
					t.Errorf("%d calls: %s", n, word)
				}
			}
			l := p.Explain(*request(1))
			if r := reasons(l)["gcp"]; r != route.PolicyResidency {
				t.Errorf("explain says %q of gcp", r)
			}
		})
	}
}

func (w *world) policyPanicOff() *world {
	w.service().Traffic.PanicThreshold = new(uint32(0))
	return w
}

func TestResidencySaysWhy(t *testing.T) {
	w := newWorld().local("az1", 1).sick("az1-0").peer("gcp", "gcp/us-east4", time.Millisecond, 1, 1).
		policy(policy.Traffic{Residency: &policy.Residency{Clouds: []string{"aws"}}, PanicThreshold: new(uint32(0))})
	l := w.compile().Explain(*request(1))
	if l.Status != route.ResidencyHeld || !strings.Contains(l.Why, `"billing" lets no call leave`) {
		t.Errorf("%s: %s", l.Status, l.Why)
	}
	for _, x := range l.Excluded {
		if x.Cluster == "gcp" && x.Evidence != `traffic policy "billing" keeps calls out of gcp/us-east4` {
			t.Errorf("gcp: %+v", x)
		}
	}
	// Of a place that is not known nothing can be promised.
	w = newWorld().peer("onprem", "", time.Millisecond, 1, 1).policy(policy.Traffic{Residency: &policy.Residency{Clouds: []string{"aws"}}})
	wantShare(t, count(w.compile(), 100, nil), map[string]float64{"residency": 1}, 0)
}

func TestTheseRulesRaiseTheFormat(t *testing.T) {
	for _, traffic := range []policy.Traffic{
		{Residency: &policy.Residency{Clouds: []string{"aws"}}},
		{Sticky: []policy.StickyKey{{Header: "x"}}},
		{Subsets: &policy.Subsets{Header: "x", List: []policy.Subset{{Name: "a", Labels: map[string]string{"v": "1"}}}}},
	} {
		table := newWorld().peer("b", "gcp", 0, 1, 1).policy(traffic).table
		if f := route.FormatOf(nil, []policy.Traffic{traffic}); f != 3 {
			t.Errorf("format %d", f)
		}
		if err := table.Validate(); err != nil {
			t.Error(err)
		}
		if table.Format = 2; table.Validate() == nil {
			t.Errorf("a table of format 2 has %+v", traffic)
		}
	}
}
