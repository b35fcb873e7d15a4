package route_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// TestTheSliceOfAPlanReplaysItsRecords: what is kept of a decision is the plan of its
// service alone, and says the same of it, word for word.
func TestTheSliceOfAPlanReplaysItsRecords(t *testing.T) {
	for _, algorithm := range []policy.Algorithm{policy.P2C, policy.RoundRobin, policy.Random, policy.LeastRequest} {
		w := newWorld().local("az1", 3).local("az2", 2).sick("az1-0", "az1-1", "az2-0").
			peer("b", "gcp/x", 20*time.Millisecond, 2, 4).peer("c", "azure/y", 25*time.Millisecond, 3, 3).
			policy(policy.Traffic{Algorithm: algorithm})
		w.evidence.Targets[target("c")] = route.TargetEvidence{EjectedUntil: epoch}
		other := *w.service()
		other.Name, other.Traffic = catalog.MustServiceName("other.default"), nil
		w.table.Services = append(w.table.Services, other)
		p := w.compile()
		of, size := p.Of(billing)
		if size <= 0 || len(of.Table().Services) != 1 {
			t.Fatalf("a slice of %d bytes and %d services", size, len(of.Table().Services))
		}
		for i := range 500 {
			r := request(i)
			if i%3 == 0 {
				r.Tried.Add("b", "")
			}
			c, rec := p.Pick(r)
			c.Counters.Begin(r.NowNanos)
			c.Counters.End(r.NowNanos, time.Duration(i)*time.Microsecond, true)
			want, got := asJSON(t, p.Replay(rec)), asJSON(t, of.Replay(rec))
			if want != got {
				t.Fatalf("%s %d: the whole plan says\n%s\nthe slice\n%s", algorithm, i, want, got)
			}
			a := route.TrailOf(of, rec, &c)
			if !a.Exact || a.Cluster != c.Target.Cluster {
				t.Fatalf("%s %d: %+v is not the choice %+v", algorithm, i, a, c)
			}
			c.Target.Cluster = "elsewhere"
			if route.TrailOf(of, rec, &c).Exact {
				t.Fatal("another choice passes as the one that was made")
			}
		}
		if l := of.Explain(route.Request{Service: other.Name}); l.Status != route.UnknownService {
			t.Errorf("the slice knows another service: %s", l.Status)
		}
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
