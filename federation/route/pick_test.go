package route_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// Each attempt of one request goes to what it did not try: first the rest of
// its tier, then the tiers behind; at the end it is told so.
func TestAttemptsWalkThroughAllCandidatesOnce(t *testing.T) {
	for _, alg := range []policy.Algorithm{policy.P2C, policy.RoundRobin, policy.Random, policy.Weighted, policy.LeastRequest} {
		t.Run(string(alg), func(t *testing.T) {
			w := newWorld().local("az1", 2).local("az2", 1).
				peer("b", "gcp", time.Millisecond, 3, 3).peer("c", "gcp", time.Millisecond, 3, 3).
				peer("far", "azure", time.Second, 3, 3).policy(policy.Traffic{Algorithm: alg})
			p := w.compile()
			for n := range 50 {
				r := request(n)
				var got []string
				for {
					c, _ := p.Pick(r)
					if c.Status != route.OK {
						got = append(got, c.Status.String())
						break
					}
					id := ""
					if c.Endpoint != nil {
						id = c.Endpoint.ID
					}
					got = append(got, word(c))
					r.Tried.Add(c.Target.Cluster, id)
				}
				order := map[string]int{"az1-0": 0, "az1-1": 0, "az2-0": 1, "b": 2, "c": 2, "far": 3, "exhausted": 4}
				if len(got) != len(order) {
					t.Fatalf("request %d went %v", n, got)
				}
				for i := 1; i < len(got); i++ {
					if order[got[i]] < order[got[i-1]] {
						t.Fatalf("request %d went %v", n, got)
					}
				}
			}
		})
	}
}

func TestTriedClusterExcludesItsEndpoints(t *testing.T) {
	w := newWorld().local("az1", 3).peer("b", "gcp", time.Millisecond, 1, 1)
	got := count(w.compile(), 100, func(r *route.Request) { r.Tried.Add(own, "") })
	wantShare(t, got, map[string]float64{"b": 1}, 0)
}

func TestPinnedRequest(t *testing.T) {
	w := everywhere()
	pin := func(c catalog.ClusterName) func(*route.Request) {
		return func(r *route.Request) { r.Pin = c }
	}
	wantShare(t, count(w.compile(), 100, pin("far")), map[string]float64{"far": 1}, 0)
	wantShare(t, count(w.compile(), 1000, pin(own)), map[string]float64{"az1-0": 0.5, "az1-1": 0.5}, 0.06)
	w.sick("az1-0", "az1-1")
	wantShare(t, count(w.compile(), 1000, pin(own)), map[string]float64{"az2-0": 0.5, "az2-1": 0.5}, 0.06)
	// Named by the caller, it is tried although ejected; without a link it cannot be.
	w.target("far", route.TargetEvidence{EjectedUntil: epoch.Add(time.Minute)})
	c, _ := w.compile().Pick(&route.Request{Service: billing, Pin: "far"})
	if word(c) != "far" || c.Mode != route.Panic {
		t.Errorf("pinned to an ejected cluster: %s, mode %s", word(c), c.Mode)
	}
	w.down("far")
	wantShare(t, count(w.compile(), 10, pin("far")), map[string]float64{"no_candidate": 1}, 0)
	wantShare(t, count(w.compile(), 10, pin("nowhere")), map[string]float64{"no_candidate": 1}, 0)
	wantShare(t, count(w.compile(), 10, func(r *route.Request) {
		r.Pin = "near"
		r.Tried.Add("near", "")
	}), map[string]float64{"exhausted": 1}, 0)
	// The policy is above the caller.
	w.policy(policy.Traffic{Weights: map[catalog.ClusterName]uint32{"near": 0, "far": 1}})
	wantShare(t, count(w.compile(), 10, pin("near")), map[string]float64{"no_candidate": 1}, 0)
}

func TestPickLocalNeverLeavesTheCluster(t *testing.T) {
	w := newWorld().local("az1", 2).local("az2", 2).peer("b", "gcp", time.Millisecond, 9, 9)
	// What the calling cluster's rules would say of this cluster does not count.
	w.policy(policy.Traffic{Pin: "b"}).target(own, route.TargetEvidence{EjectedUntil: epoch.Add(time.Hour)})
	r := request(0)
	if c, _ := w.compile().PickLocal(r); c.Status != route.NotExported {
		t.Errorf("not exported: %s", c.Status)
	}
	w.service().ExportedTo = []catalog.ClusterName{"b"}
	pick := func(n int) map[string]int {
		got, p := map[string]int{}, w.compile()
		for i := range n {
			c, _ := p.PickLocal(request(i))
			got[word(c)]++
		}
		return got
	}
	wantShare(t, pick(2000), map[string]float64{"az1-0": 0.5, "az1-1": 0.5}, 0.05)
	w.sick("az1-0", "az1-1")
	wantShare(t, pick(2000), map[string]float64{"az2-0": 0.5, "az2-1": 0.5}, 0.05)
	w.sick("az2-0", "az2-1")
	for name := range pick(200) {
		if name == "b" {
			t.Error("PickLocal routed on")
		}
	}
	p := w.compile()
	for i := range 4 {
		c, _ := p.PickLocal(r)
		if c.Endpoint == nil {
			t.Fatalf("attempt %d: %s", i, c.Status)
		}
		r.Tried.Add(own, c.Endpoint.ID)
	}
	if c, _ := p.PickLocal(r); c.Status != route.Exhausted {
		t.Errorf("after all endpoints: %s", c.Status)
	}
	w.service().Endpoints = nil
	if c, _ := w.compile().PickLocal(request(0)); c.Status != route.NoCandidate {
		t.Errorf("without endpoints: %s", c.Status)
	}
}

func TestRoundRobinIsSmoothAndExact(t *testing.T) {
	w := newWorld().local("az1", 3).policy(policy.Traffic{Algorithm: policy.RoundRobin})
	w.service().Endpoints[0].Weight = 3
	sequence := func(n int) string {
		s := ""
		for i := range n {
			// Every call with a plan of its own: the position outlives plans.
			c, _ := w.compile().Pick(request(i))
			s += string(c.Endpoint.ID[4])
		}
		return s
	}
	if got := sequence(10); got != "0102001020" {
		t.Errorf("the sequence is %s", got)
	}
	w.service().Endpoints[0].Weight = 1
	w.live = route.NewLive()
	if got := sequence(9); got != "012012012" {
		t.Errorf("equal weights give %s", got)
	}
}

// Tiers and zones must not share a round-robin position: with one of them every
// second turn, a list of two would always serve the same entry.
func TestRoundRobinOfTwoTiersDoesNotAlias(t *testing.T) {
	w := newWorld().local("az1", 2).sick("az1-1").
		peer("b", "gcp", time.Millisecond, 1, 1).peer("c", "gcp", time.Millisecond, 1, 1).
		policy(policy.Traffic{Algorithm: policy.RoundRobin})
	got := count(w.compile(), 10_000, nil) // 70 % own, 30 % b and c
	wantShare(t, got, map[string]float64{"az1-0": 0.7, "b": 0.15, "c": 0.15}, 0.01)
	if diff := got["b"] - got["c"]; diff > 1 || diff < -1 {
		t.Errorf("b and c did not take turns: %v", got)
	}
}

func TestRandomAndWeightedFollowTheirWeights(t *testing.T) {
	for alg, want := range map[policy.Algorithm]map[string]float64{
		policy.Weighted: {"az1-0": 0.5, "az1-1": 0.3, "az1-2": 0.2},
		policy.Random:   {"az1-0": 1.0 / 3, "az1-1": 1.0 / 3, "az1-2": 1.0 / 3},
	} {
		w := newWorld().local("az1", 3).policy(policy.Traffic{Algorithm: alg})
		for i, weight := range []uint32{50, 30, 20} {
			w.service().Endpoints[i].Weight = weight
		}
		wantShare(t, count(w.compile(), 50_000, nil), want, 0.01)
	}
	w := newWorld().peer("a", "gcp", time.Millisecond, 6, 6).peer("b", "gcp", time.Millisecond, 3, 3).
		peer("c", "gcp", time.Millisecond, 1, 1).policy(policy.Traffic{Algorithm: policy.Random})
	wantShare(t, count(w.compile(), 50_000, nil), map[string]float64{"a": 0.6, "b": 0.3, "c": 0.1}, 0.01)
}

func TestP2CPrefersThePredictedFaster(t *testing.T) {
	w := newWorld().local("az1", 2)
	now := epoch.UnixNano()
	slow, fast := w.live.Endpoint(endpointKey("az1-0")), w.live.Endpoint(endpointKey("az1-1"))
	for c, d := range map[*route.Counters]time.Duration{slow: 20 * time.Millisecond, fast: 5 * time.Millisecond} {
		c.Begin(now)
		c.End(now, d, true)
	}
	p := w.compile()
	wantShare(t, count(p, 100, nil), map[string]float64{"az1-1": 1}, 0)
	for range 4 { // 5 ms x 5 is more than 20 ms x 1
		fast.Begin(now)
	}
	wantShare(t, count(p, 100, nil), map[string]float64{"az1-0": 1}, 0)
}

func TestP2CTakesTheLinkAsTheFirstEstimate(t *testing.T) {
	w := newWorld().peer("a", "gcp", 9*time.Millisecond, 1, 1).peer("b", "gcp", 3*time.Millisecond, 1, 1)
	p := w.compile()
	wantShare(t, count(p, 100, nil), map[string]float64{"b": 1}, 0)
	// An estimate that has decayed never promises less than the way takes.
	now := epoch.UnixNano()
	c := w.live.Target(target("a"))
	c.Begin(now - int64(10*time.Minute))
	c.End(now-int64(10*time.Minute), time.Millisecond, true)
	wantShare(t, count(p, 100, nil), map[string]float64{"b": 1}, 0)
}

func TestP2CCountsInFlightPerReadyEndpoint(t *testing.T) {
	w := newWorld().peer("big", "gcp", 5*time.Millisecond, 10, 10).peer("small", "gcp", 5*time.Millisecond, 1, 1)
	now := epoch.UnixNano()
	for range 5 {
		w.live.Target(target("big")).Begin(now) // 1 + 5/10
	}
	w.live.Target(target("small")).Begin(now) // 1 + 1
	wantShare(t, count(w.compile(), 100, nil), map[string]float64{"big": 1}, 0)
}

func TestNewEndpointNeitherFloodsNorStarves(t *testing.T) {
	w := newWorld().local("az1", 2)
	now := epoch.UnixNano()
	old := w.live.Endpoint(endpointKey("az1-0"))
	old.Begin(now)
	old.End(now, 3*time.Millisecond, true)
	p := w.compile()
	for i := range 1000 { // calls that do not end
		c, _ := p.Pick(request(i))
		c.EndpointCounters.Begin(now)
	}
	a, b := old.InFlight(), w.live.Endpoint(endpointKey("az1-1")).InFlight()
	if a+b != 1000 || a < 499 || a > 501 {
		t.Errorf("the old one has %d calls, the new one %d", a, b)
	}
}

func TestFailingFastDrawsNoCalls(t *testing.T) {
	w := newWorld().local("az1", 2)
	now := epoch.UnixNano()
	for id, ok := range map[string]bool{"az1-0": true, "az1-1": false} {
		c := w.live.Endpoint(endpointKey(id))
		c.Begin(now)
		c.End(now, map[bool]time.Duration{true: 30 * time.Millisecond, false: time.Millisecond}[ok], ok)
	}
	wantShare(t, count(w.compile(), 100, nil), map[string]float64{"az1-0": 1}, 0)
}

func TestLeastRequest(t *testing.T) {
	w := newWorld().local("az1", 2).policy(policy.Traffic{Algorithm: policy.LeastRequest})
	now := epoch.UnixNano()
	w.live.Endpoint(endpointKey("az1-0")).Begin(now)
	slow := w.live.Endpoint(endpointKey("az1-1"))
	slow.Begin(now)
	slow.End(now, time.Second, true)
	wantShare(t, count(w.compile(), 100, nil), map[string]float64{"az1-1": 1}, 0)
}

// One failing service takes nothing else behind the same gateway with it.
func TestEjectionTouchesOneServiceOnly(t *testing.T) {
	w := newWorld().peer("b", "gcp", time.Millisecond, 3, 3).peer("c", "azure", 50*time.Millisecond, 3, 3)
	other := *w.service()
	other.Name = catalog.MustServiceName("web.default")
	w.table.Services = append(w.table.Services, other)
	w.target("b", route.TargetEvidence{EjectedUntil: epoch.Add(time.Second), Reason: "5 failures in a row"})
	p := w.compile()
	wantShare(t, count(p, 100, nil), map[string]float64{"c": 1}, 0)
	wantShare(t, count(p, 100, func(r *route.Request) { r.Service = other.Name }), map[string]float64{"b": 1}, 0)
}

// Of many requests at once, one is the probation of a target whose ejection is
// over, and of an endpoint's likewise.
func TestProbationLetsExactlyOneRequestThrough(t *testing.T) {
	for _, what := range []string{"target", "endpoint"} {
		t.Run(what, func(t *testing.T) {
			w := newWorld().peer("far", "azure", 100*time.Millisecond, 3, 3)
			var counters *route.Counters
			if what == "target" {
				w.peer("b", "gcp", time.Millisecond, 3, 3).
					target("b", route.TargetEvidence{EjectedUntil: epoch.Add(-time.Millisecond)})
				counters = w.live.Target(target("b"))
			} else {
				w.local("az1", 2)
				w.evidence.Endpoints[endpointKey("az1-0")] = route.EndpointEvidence{EjectedUntil: epoch.Add(-time.Millisecond)}
				counters = w.live.Endpoint(endpointKey("az1-0"))
			}
			p := w.compile()
			// A retry is no experiment.
			r := request(0)
			r.Tried.Add("nobody", "")
			if c, _ := p.Pick(r); c.Mode == route.Probation {
				t.Error("a retry was made the probation")
			}
			if l := p.Explain(*request(0)); l.Mode != route.Probation {
				t.Errorf("explain foresees %s", l.Mode)
			}
			var mu sync.Mutex
			var wg sync.WaitGroup
			probes := 0
			for g := range 8 {
				wg.Go(func() {
					for i := range 200 {
						c, _ := p.Pick(request(g*200 + i))
						if c.Mode == route.Probation {
							mu.Lock()
							probes++
							mu.Unlock()
							if c.Counters != counters && c.EndpointCounters != counters {
								t.Errorf("the probation went to %s", word(c))
							}
						}
					}
				})
			}
			wg.Wait()
			if probes != 1 {
				t.Errorf("%d requests were probations", probes)
			}
			// If that one is never heard of again, the next gets its chance.
			later := request(1)
			later.NowNanos += int64(11 * time.Second)
			if c, _ := p.Pick(later); c.Mode != route.Probation {
				t.Errorf("after 11 s: mode %s", c.Mode)
			}
		})
	}
}

func TestProbationWaitsForTrafficOfItsTier(t *testing.T) {
	w := newWorld().local("az1", 1).peer("b", "gcp", time.Millisecond, 3, 3).
		target("b", route.TargetEvidence{EjectedUntil: epoch.Add(-time.Second)})
	wantShare(t, count(w.compile(), 100, nil), map[string]float64{"az1-0": 1}, 0)
}

// A plan that was compiled during the ejection lets the probation through when
// its time has come.
func TestProbationNeedsNoNewPlan(t *testing.T) {
	w := newWorld().peer("b", "gcp", time.Millisecond, 3, 3).peer("far", "azure", 100*time.Millisecond, 3, 3).
		target("b", route.TargetEvidence{EjectedUntil: epoch.Add(time.Second)})
	p := w.compile()
	wantShare(t, count(p, 50, nil), map[string]float64{"far": 1}, 0)
	later := func(r *route.Request) { r.NowNanos += int64(time.Second) }
	wantShare(t, count(p, 50, later), map[string]float64{"b": 0.02, "far": 0.98}, 0)
}

func TestOwnClusterOnProbation(t *testing.T) {
	w := newWorld().local("az1", 2).peer("b", "gcp", time.Millisecond, 3, 3).
		target(own, route.TargetEvidence{EjectedUntil: epoch})
	p := w.compile()
	c, _ := p.Pick(request(0))
	if c.Mode != route.Probation || c.Endpoint == nil {
		t.Fatalf("the first goes to %s, mode %s", word(c), c.Mode)
	}
	wantShare(t, count(p, 50, nil), map[string]float64{"b": 1}, 0)
}

func TestLiveForgetsWhatTheTableDropped(t *testing.T) {
	w := newWorld().local("az1", 2).peer("b", "gcp", time.Millisecond, 3, 3).policy(policy.Traffic{Algorithm: policy.RoundRobin})
	keep, drop := w.live.Endpoint(endpointKey("az1-0")), w.live.Endpoint(endpointKey("az1-1"))
	b := w.live.Target(target("b"))
	p := w.compile()
	w.live.Prune(p)
	if w.live.Endpoint(endpointKey("az1-1")) != drop || w.live.Target(target("b")) != b {
		t.Error("Prune dropped what the table holds")
	}
	w.service().Endpoints, w.service().Remote = w.service().Endpoints[:1], nil
	w.live.Prune(w.compile())
	if w.live.Endpoint(endpointKey("az1-0")) != keep {
		t.Error("Prune dropped an endpoint that is there")
	}
	if w.live.Endpoint(endpointKey("az1-1")) == drop || w.live.Target(target("b")) == b {
		t.Error("Prune kept what is gone")
	}
}

func TestPickDoesNotAllocate(t *testing.T) {
	for _, alg := range []policy.Algorithm{policy.P2C, policy.RoundRobin, policy.Random, policy.Weighted, policy.LeastRequest} {
		w := newWorld().local("az1", 10).local("az2", 10).sick("az1-0", "az1-1", "az1-2", "az1-3")
		for i := range 10 {
			w.peer(fmt.Sprintf("p%d", i), "gcp", 10*time.Millisecond, 3, 5)
		}
		w.service().ExportedTo = []catalog.ClusterName{"p0"}
		p := w.policy(policy.Traffic{Algorithm: alg}).compile()
		r := request(1)
		retry := *r
		retry.Tried.Add(own, "az1-5")
		retry.Tried.Add("p1", "")
		pinned := *r
		pinned.Pin = "p2"
		for name, ask := range map[string]func(){
			"first attempt": func() { r.Random++; p.Pick(r) },
			"retry":         func() { retry.Random++; p.Pick(&retry) },
			"pinned":        func() { pinned.Random++; p.Pick(&pinned) },
			"local":         func() { r.Random++; p.PickLocal(r) },
		} {
			if n := testing.AllocsPerRun(1000, ask); n != 0 {
				t.Errorf("%s, %s: %v allocations", alg, name, n)
			}
		}
	}
}
