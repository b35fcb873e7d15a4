package route_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// versions has v1 and v2 at home, v2 in b and v1 in c.
func versions(change ...func(*policy.Subsets)) *world {
	w := newWorld().local("az1", 4).peer("b", "gcp/us-east4", time.Millisecond, 2, 2).peer("c", "gcp/us-east4", time.Millisecond, 2, 2)
	s := w.service()
	for i := range s.Endpoints {
		s.Endpoints[i].Labels = map[string]string{"version": []string{"v1", "v2"}[i%2], "team": "a"}
	}
	s.Remote[0].Rows[0].Subset, s.Remote[1].Rows[0].Subset = "version=v2", "version=v1"
	s.ExportedTo, s.SubsetLabels = []catalog.ClusterName{"b"}, []string{"version"}
	subsets := &policy.Subsets{Header: "X-Version", List: []policy.Subset{
		{Name: "stable", Labels: map[string]string{"version": "v1"}, Weight: 9},
		{Name: "next", Labels: map[string]string{"version": "v2"}, Weight: 1},
		{Name: "gone", Labels: map[string]string{"version": "v3"}},
	}}
	for _, f := range change {
		f(subsets)
	}
	return w.policy(policy.Traffic{Subsets: subsets})
}

func of(subset string) func(*route.Request) { return func(r *route.Request) { r.Subset = subset } }

func TestSubsets(t *testing.T) {
	p := versions().compile()
	half := map[string]float64{"az1-1": 0.5, "az1-3": 0.5}
	wantShare(t, count(p, 4000, of("next")), half, 0.03)
	wantShare(t, count(p, 40_000, nil), map[string]float64{"az1-0": 0.45, "az1-2": 0.45, "az1-1": 0.05, "az1-3": 0.05}, 0.01)
	wantShare(t, count(p, 1000, of("gone")), map[string]float64{"no_candidate": 1}, 0)
	// Its tiers are its own: with v2 dead at home it fails over to where there is v2.
	w := versions().sick("az1-1", "az1-3")
	wantShare(t, count(w.compile(), 1000, of("next")), map[string]float64{"b": 1}, 0)
	c, rec := w.compile().Pick(&route.Request{Service: billing, Subset: "next", Random: 7, NowNanos: epoch.UnixNano()})
	l := w.compile().Replay(rec)
	if c.Subset != "version=v2" || l.Choice.Subset != c.Subset {
		t.Errorf("%+v, %+v", c, l.Choice)
	}
	if l.Draws[0].Of != "subset" || l.Draws[0].By != "request" || l.Draws[0].Taken != "next" || !strings.Contains(l.Why, "subset next") {
		t.Errorf("%+v: %s", l.Draws[0], l.Why)
	}
	if reasons(l)["c"] != route.SubsetMissing {
		t.Errorf("c is out for %q", reasons(l)["c"])
	}
	lenient := versions(func(s *policy.Subsets) { s.FallbackAny = true }).compile()
	for word := range count(lenient, 1000, of("gone")) {
		if !strings.HasPrefix(word, "az1-") {
			t.Errorf("the whole service stands in by %s", word)
		}
	}
}

// A key decides the subset too, so that a caller stays in it.
func TestASplitOfSubsetsIsSticky(t *testing.T) {
	w := versions()
	w.service().Traffic.Sticky = []policy.StickyKey{{Header: "X-User"}}
	p := w.compile()
	first := where(p, 5000, nil)
	if m := moved(first, where(p, 5000, func(r *route.Request) { r.Random *= 5 }), ""); m > 0 {
		t.Errorf("%.3f of keys moved", m)
	}
	next := tally(first)["az1-1"] + tally(first)["az1-3"]
	if got := float64(next) / 5000; math.Abs(got-0.1) > 0.02 {
		t.Errorf("%.3f of keys are in the part of 10 %%", got)
	}
}

// The far end picks among the endpoints of the labels that it is told, where an export
// publishes them.
func TestSubsetsOfPeers(t *testing.T) {
	p := versions().compile()
	for subset, want := range map[string]string{
		"version=v2": "az1-1 az1-3", "version=v1": "az1-0 az1-2", "version=v3": "no_candidate", "team=a": "no_candidate",
		"version": "no_candidate", "version=v2,version=v1": "no_candidate",
	} {
		for i := range 200 {
			r := request(i)
			r.Subset = subset
			c, rec := p.PickLocal(r)
			if !strings.Contains(want, word(c)) {
				t.Fatalf("%q went to %s, want %s", subset, word(c), want)
			}
			if l := p.Replay(rec); l.Status != c.Status || c.Endpoint != nil && l.Choice.Endpoint != c.Endpoint.ID {
				t.Fatalf("%q: replayed %s", subset, l.Status)
			}
		}
	}
}

// Who is new gets the part of Envoy's formula, whatever the algorithm.
func TestSlowStart(t *testing.T) {
	for _, a := range []policy.Algorithm{policy.Random, policy.Weighted, policy.RoundRobin, policy.RingHash, policy.Maglev} {
		for _, tc := range []struct {
			age        time.Duration
			aggression float64
			want       float64 // of the share
		}{
			{0, 1, 0.1}, {5 * time.Second, 1, 0.25}, {5 * time.Second, 2, 0.5}, {10 * time.Second, 1, 0.5}, {20 * time.Second, 1, 1},
		} {
			traffic := policy.Traffic{Algorithm: a, SlowStart: &policy.SlowStart{WindowSeconds: 20, Aggression: tc.aggression}}
			if a.Hashes() {
				traffic.Sticky = []policy.StickyKey{{Header: "x"}}
				traffic.Hashing = &policy.Hashing{BoundPercent: new(uint32(0)), MinRingSize: 65536, TableSize: 65537}
			}
			w := newWorld().local("az1", 4).policy(traffic)
			for i, id := range []string{"az1-0", "az1-1", "az1-2", "az1-3"} {
				since := epoch.Add(-time.Hour)
				if i == 0 {
					since = epoch
				}
				w.evidence.Endpoints[endpointKey(id)] = route.EndpointEvidence{Healthy: true, Since: since}
			}
			p := w.compile() // once: the parts grow without a new plan
			got := count(p, 40_000, func(r *route.Request) { r.NowNanos = epoch.Add(tc.age).UnixNano() })
			rest := 1 / (3 + tc.want)
			if a == policy.RoundRobin || a.Hashes() { // a turn, or a key, that is passed over is the next one's
				if have := float64(got["az1-0"]) / 40_000; math.Abs(have-tc.want/4) > 0.01 {
					t.Errorf("%s after %v: %.3f, want %.3f", a, tc.age, have, tc.want/4)
				}
				continue
			}
			wantShare(t, got, map[string]float64{"az1-0": tc.want * rest, "az1-1": rest, "az1-2": rest, "az1-3": rest}, 0.015)
		}
	}
}

// Who fails at once, or refuses, is not asked more than its share.
func TestFailingFastDrawsNoCallsByAnyAlgorithm(t *testing.T) {
	for _, a := range []policy.Algorithm{policy.P2C, policy.RoundRobin, policy.Random, policy.Weighted, policy.LeastRequest, policy.RingHash, policy.Maglev} {
		for _, refuses := range []bool{false, true} {
			traffic := policy.Traffic{Algorithm: a}
			if a.Hashes() {
				traffic.Sticky = []policy.StickyKey{{Header: "x"}}
			}
			w := newWorld().local("az1", 4).policy(traffic)
			p := w.compile()
			bad := 0
			for i := range 8000 {
				r := request(i)
				r.NowNanos += int64(i) * int64(time.Millisecond)
				c, _ := p.Pick(r)
				c.EndpointCounters.Begin(r.NowNanos)
				switch {
				case c.Endpoint.ID != "az1-0":
					c.EndpointCounters.End(r.NowNanos, 20*time.Millisecond, true)
				case refuses:
					c.EndpointCounters.Refuse(r.NowNanos, time.Microsecond, 0)
				default:
					c.EndpointCounters.End(r.NowNanos, time.Microsecond, false)
				}
				if c.Endpoint.ID == "az1-0" {
					bad++
				}
			}
			if share := float64(bad) / 8000; share > 0.27 || (a == policy.P2C || a == policy.LeastRequest) && share > 0.05 {
				t.Errorf("%s, refuses %v: %.3f of calls go to who fails fast", a, refuses, share)
			}
		}
	}
}
