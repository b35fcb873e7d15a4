package route_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// levels makes one tier per number: a peer with so many of 100 endpoints ready.
func levels(ready []uint32, t policy.Traffic) *world {
	w := newWorld()
	for i, n := range ready {
		name := fmt.Sprintf("p%d", i)
		w.peer(name, "gcp", 10*time.Millisecond, n, 100)
		t.Clusters = append(t.Clusters, catalog.ClusterName(name))
	}
	return w.policy(t)
}

// The tables of Envoy's documentation: arch_overview/upstream/load_balancing/
// priority and panic_threshold, at the overprovisioning factor of 1.4. Envoy
// rounds to whole percents, so that up to one is its rounding.
func TestLoadsFollowEnvoysTables(t *testing.T) {
	for _, tt := range []struct {
		ready []uint32
		load  []float64
		panic []bool
	}{
		{ready: []uint32{100, 100}, load: []float64{100, 0}},
		{ready: []uint32{72, 100}, load: []float64{100, 0}},
		{ready: []uint32{71, 100}, load: []float64{99, 1}},
		{ready: []uint32{50, 100}, load: []float64{70, 30}},
		{ready: []uint32{25, 100}, load: []float64{35, 65}},
		{ready: []uint32{0, 100}, load: []float64{0, 100}},
		{ready: []uint32{72, 72}, load: []float64{100, 0}},
		{ready: []uint32{71, 71}, load: []float64{99, 1}},
		{ready: []uint32{50, 50}, load: []float64{70, 30}},
		{ready: []uint32{25, 25}, load: []float64{50, 50}, panic: []bool{true, true}},
		{ready: []uint32{5, 65}, load: []float64{7, 93}, panic: []bool{true, false}},
		{ready: []uint32{72, 72, 100}, load: []float64{100, 0, 0}},
		{ready: []uint32{71, 71, 100}, load: []float64{99, 1, 0}},
		{ready: []uint32{50, 50, 100}, load: []float64{70, 30, 0}},
		{ready: []uint32{25, 100, 100}, load: []float64{35, 65, 0}},
		{ready: []uint32{25, 25, 100}, load: []float64{35, 35, 30}},
		{ready: []uint32{25, 25, 20}, load: []float64{36, 36, 28}, panic: []bool{true, true, true}},
		{ready: []uint32{0, 0}, load: []float64{100, 0}, panic: []bool{true, true}},
	} {
		t.Run(fmt.Sprint(tt.ready), func(t *testing.T) {
			p := levels(tt.ready, policy.Traffic{}).compile()
			l := p.Explain(*request(0))
			var sum float64
			for i, got := range loads(l) {
				if math.Abs(got-tt.load[i]) >= 1 {
					t.Errorf("tier %d has a load of %.2f %%, want %v", i, got, tt.load[i])
				}
				if want := tt.panic != nil && tt.panic[i]; l.Tiers[i].Panic != want {
					t.Errorf("tier %d: panic is %v, want %v", i, l.Tiers[i].Panic, want)
				}
				sum += got
			}
			if math.Abs(sum-100) > 1e-9 {
				t.Errorf("loads sum to %v", sum)
			}
			want := map[string]float64{}
			for i, load := range loads(l) {
				if load > 0 {
					want[fmt.Sprintf("p%d", i)] = load / 100
				}
			}
			wantShare(t, count(p, 20_000, nil), want, 0.015)
		})
	}
}

func TestPanicThresholdZeroNeverPanics(t *testing.T) {
	p := levels([]uint32{0, 0}, policy.Traffic{PanicThreshold: new(uint32)}).compile()
	wantShare(t, count(p, 100, nil), map[string]float64{"no_candidate": 1}, 0)
	p = levels([]uint32{10, 10}, policy.Traffic{PanicThreshold: new(uint32)}).compile()
	for _, tier := range p.Explain(*request(0)).Tiers {
		if tier.Panic {
			t.Errorf("tier %d panics", tier.Tier)
		}
	}
}

func TestFailClosedRefusesInsteadOfPanicking(t *testing.T) {
	// 5 % and 65 %: tier 0 would panic and takes 7 % of calls, which are refused.
	p := levels([]uint32{5, 65}, policy.Traffic{FailClosed: true}).compile()
	wantShare(t, count(p, 20_000, nil), map[string]float64{"fail_closed": 0.0714, "p1": 0.9286}, 0.01)
	p = levels([]uint32{0, 0}, policy.Traffic{FailClosed: true}).compile()
	wantShare(t, count(p, 100, nil), map[string]float64{"fail_closed": 1}, 0)
}

func TestOneOfManyReadyIsStillRoutable(t *testing.T) {
	w := newWorld().peer("p0", "gcp", time.Millisecond, 1, 500).policy(policy.Traffic{PanicThreshold: new(uint32)})
	wantShare(t, count(w.compile(), 100, nil), map[string]float64{"p0": 1}, 0)
}

func TestPanicBalancesOverAllButLeavesTheDead(t *testing.T) {
	w := newWorld().local("az1", 5).sick("az1-0", "az1-1", "az1-2")
	p := w.compile()
	got := count(p, 5_000, nil)
	for i := range 5 {
		if got[fmt.Sprintf("az1-%d", i)] == 0 {
			t.Errorf("az1-%d is never chosen in panic: %v", i, got)
		}
	}
	c, _ := p.Pick(request(0))
	if c.Mode != route.Panic {
		t.Errorf("the mode is %s", c.Mode)
	}
	// Once the dead have failed, the better of two leaves them, without the plan
	// having changed.
	now := epoch.UnixNano()
	for i := range 5 {
		k := w.live.Endpoint(endpointKey(fmt.Sprintf("az1-%d", i)))
		k.Begin(now)
		k.End(now, time.Millisecond, i >= 3)
	}
	got = count(p, 5_000, nil)
	if dead := got["az1-0"] + got["az1-1"] + got["az1-2"]; dead > 0 {
		t.Errorf("%d of 5000 calls go to the dead: %v", dead, got)
	}
}

func TestRampGivesItsShareAndTheRestStaysBehind(t *testing.T) {
	for _, tt := range []struct {
		name     string
		withheld float64
		behind   uint32 // ready of 100 in the tier behind
		want     []float64
		ignored  bool
	}{
		{"hold-down", 1, 100, []float64{0, 100}, false},
		{"first step", 0.9, 100, []float64{10, 90}, false},
		{"half way", 0.5, 100, []float64{50, 50}, false},
		{"over", 0, 100, []float64{100, 0}, false},
		{"nowhere else", 1, 0, []float64{100, 0}, true},
		{"half of elsewhere", 1, 50, []float64{30, 70}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := levels([]uint32{100, tt.behind}, policy.Traffic{})
			w.target("p0", route.TargetEvidence{Withheld: tt.withheld})
			l := w.compile().Explain(*request(0))
			for i, got := range loads(l) {
				if math.Abs(got-tt.want[i]) > 0.01 {
					t.Errorf("tier %d has a load of %v %%, want %v", i, got, tt.want[i])
				}
			}
			if l.Tiers[0].RampIgnored != tt.ignored {
				t.Errorf("ramp ignored is %v, want %v", l.Tiers[0].RampIgnored, tt.ignored)
			}
		})
	}
}

// Within a tier a candidate that comes back grows from what the tier had
// without it, and both its own weight and the tier's health follow its share.
func TestRampInsideOfATier(t *testing.T) {
	at := func(withheld float64) (*route.Plan, *route.Ledger) {
		w := newWorld().
			peer("b", "gcp", 10*time.Millisecond, 3, 3).
			peer("c", "gcp", 10*time.Millisecond, 3, 3).
			peer("far", "azure", 100*time.Millisecond, 9, 9).
			policy(policy.Traffic{Algorithm: policy.Weighted})
		w.link("b", func(l *route.LinkEvidence) { l.Withheld = withheld })
		p := w.compile()
		return p, p.Explain(*request(0))
	}
	_, l := at(1)
	if got := l.Tiers[0].Load; math.Abs(got-70) > 0.01 { // as while b was away: 1.4 x 3/6
		t.Errorf("in hold-down the tier takes %v %%, want 70", got)
	}
	p, l := at(0.9)
	if got := l.Tiers[0].Load; math.Abs(got-73) > 0.01 {
		t.Errorf("at a share of 10 %% the tier takes %v %%, want 73", got)
	}
	wantShare(t, count(p, 20_000, nil), map[string]float64{"b": 0.73 / 11, "c": 0.73 * 10 / 11, "far": 0.27}, 0.01)
	p, _ = at(0)
	wantShare(t, count(p, 20_000, nil), map[string]float64{"b": 0.5, "c": 0.5}, 0.015)
}

// Who comes back is idle and answers fast: of two draws it would win each time. The
// ramp holds for the second draw, too.
func TestRampHoldsWhereTheBetterOfTwoIsTaken(t *testing.T) {
	for _, algorithm := range []policy.Algorithm{policy.P2C, policy.LeastRequest} {
		for withheld, most := range map[float64]float64{1: 0, 0.9: 0.2, 0.5: 0.7} {
			w := newWorld().
				peer("b", "gcp", 8*time.Millisecond, 1, 1).
				peer("c", "gcp", 10*time.Millisecond, 1, 1).
				policy(policy.Traffic{Algorithm: algorithm})
			w.link("b", func(l *route.LinkEvidence) { l.Withheld = withheld })
			got := float64(count(w.compile(), 10_000, nil)["b"]) / 10_000
			if got > most || (got == 0) != (withheld == 1) {
				t.Errorf("%s: %v is held back, and it has a share of %.3f, want at most %v", algorithm, withheld, got, most)
			}
		}
	}
}
