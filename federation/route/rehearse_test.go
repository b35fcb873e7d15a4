package route_test

import (
	"math"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

func rehearse(p *route.Plan, took map[catalog.ClusterName]time.Duration) map[string]float64 {
	out := map[string]float64{}
	for _, part := range p.Rehearse(route.Rehearsal{
		Request: route.Request{Service: billing, NowNanos: epoch.UnixNano()}, Calls: 10_000, Every: time.Millisecond,
		Took: func(t route.Target) time.Duration { return took[t.Cluster] },
	}) {
		name := string(part.Cluster)
		if part.Status != route.OK {
			name = part.Status.String()
		}
		out[name] += part.Share
	}
	return out
}

func wantSplit(t *testing.T, what string, got map[string]float64, want map[string]float64, tolerance float64) {
	t.Helper()
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: %.4f to %s, want none", what, got[name], name)
		}
	}
	for name, share := range want {
		if math.Abs(got[name]-share) > tolerance {
			t.Errorf("%s: %.4f to %s, want %.4f", what, got[name], name, share)
		}
	}
}

func TestARehearsalSplitsAsCallsDo(t *testing.T) {
	ms := time.Millisecond
	// Between tiers the split is exact: 3 of 5 ready endpoints are 84 % of health.
	w := newWorld().local("az1", 5).sick("az1-0", "az1-1").peer("b", "gcp/x", 20*ms, 4, 4)
	wantSplit(t, "a spill", rehearse(w.compile(), map[catalog.ClusterName]time.Duration{own: ms, "b": 20 * ms}),
		map[string]float64{string(own): 0.84, "b": 0.16}, 0.0002)
	// By weights it is that of the draws.
	w = newWorld().local("az1", 1).peer("b", "gcp/x", 20*ms, 1, 1).
		policy(policy.Traffic{Weights: map[catalog.ClusterName]uint32{own: 70, "b": 30}})
	wantSplit(t, "weights", rehearse(w.compile(), map[catalog.ClusterName]time.Duration{own: ms, "b": 20 * ms}),
		map[string]float64{string(own): 0.7, "b": 0.3}, 0.01)
	// Of two that are alike each gets about half, although the first call decides alone.
	w = newWorld().peer("b", "gcp/x", 20*ms, 4, 4).peer("c", "gcp/y", 21*ms, 4, 4)
	wantSplit(t, "two alike", rehearse(w.compile(), map[catalog.ClusterName]time.Duration{"b": 25 * ms, "c": 25 * ms}),
		map[string]float64{"b": 0.5, "c": 0.5}, 0.1)
	// Nowhere to go.
	w = newWorld().peer("b", "gcp/x", 20*ms, 0, 4).policy(policy.Traffic{FailClosed: true})
	wantSplit(t, "nowhere", rehearse(w.compile(), nil), map[string]float64{"fail_closed": 1}, 0)
}

// TestARehearsalIsRepeatable: the same question has the same answer.
func TestARehearsalIsRepeatable(t *testing.T) {
	once := func() map[string]float64 {
		w := newWorld().local("az1", 2).peer("b", "aws/us-east-1", time.Millisecond, 2, 2).peer("c", "gcp/x", 20*time.Millisecond, 4, 4)
		return rehearse(w.compile(), map[catalog.ClusterName]time.Duration{own: 3 * time.Millisecond, "b": 4 * time.Millisecond})
	}
	wantSplit(t, "again", once(), once(), 0)
}
