package route_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

var (
	places     = []string{"aws/us-east-1", "aws/us-west-2", "gcp/us-central1", "azure", ""}
	zones      = []string{"az1", "az2", "az3"}
	algorithms = []policy.Algorithm{"", policy.P2C, policy.RoundRobin, policy.Random, policy.Weighted, policy.LeastRequest}
	healths    = []catalog.Health{catalog.Passing, catalog.Passing, catalog.Passing, catalog.Warning, catalog.Unknown, catalog.Critical, catalog.Maintenance}
)

// drawWorld is any table and evidence: everything that can go wrong does.
func drawWorld(t *rapid.T) *world {
	w := newWorld()
	for i := range rapid.IntRange(0, 6).Draw(t, "endpoints") {
		w.local(rapid.SampledFrom(zones).Draw(t, "zone"), 1)
		ep := &w.service().Endpoints[i]
		ep.ID = fmt.Sprintf("e%d", i)
		ep.Weight = rapid.Uint32Range(1, 5).Draw(t, "weight")
		ep.Health = rapid.SampledFrom(healths).Draw(t, "health")
		if rapid.Bool().Draw(t, "seen") {
			w.evidence.Endpoints[endpointKey(ep.ID)] = route.EndpointEvidence{
				Healthy: rapid.Bool().Draw(t, "healthy"), EjectedUntil: drawUntil(t),
			}
		}
		if rapid.IntRange(0, 9).Draw(t, "quarantined") == 0 {
			ep.Quarantined = true
		}
		drawCalls(t, w.live.Endpoint(endpointKey(ep.ID)))
	}
	if rapid.Bool().Draw(t, "exported") {
		w.service().ExportedTo = []catalog.ClusterName{"p0"}
	}
	for i := range rapid.IntRange(0, 5).Draw(t, "peers") {
		drawPeer(t, w, fmt.Sprintf("p%d", i))
	}
	if rapid.Bool().Draw(t, "ruled") {
		w.policy(drawPolicy(t, w))
	}
	drawTarget(t, w, own)
	return w
}

func drawPeer(t *rapid.T, w *world, name string) {
	total := rapid.Uint32Range(0, 5).Draw(t, "total")
	rtt := time.Duration(rapid.IntRange(0, 200).Draw(t, "rtt")) * time.Millisecond
	w.peer(name, rapid.SampledFrom(places).Draw(t, "place"), rtt, rapid.Uint32Range(0, total).Draw(t, "ready"), total)
	c := catalog.ClusterName(name)
	if rapid.IntRange(0, 4).Draw(t, "zoned") == 0 {
		w.rows(c, catalog.SummaryRow{Port: "http", Zone: "az1", Ready: 1, Total: 2}, catalog.SummaryRow{Port: "http", Zone: "az2", Ready: 1, Total: 1})
	}
	w.link(c, func(l *route.LinkEvidence) {
		l.Up = rapid.IntRange(0, 3).Draw(t, "up") > 0
		l.Draining = !l.Up && rapid.Bool().Draw(t, "draining")
		l.Withheld = drawWithheld(t)
	})
	if rapid.IntRange(0, 3).Draw(t, "control lost") == 0 {
		w.controlLost(c, epoch.Add(-time.Duration(rapid.IntRange(0, 120).Draw(t, "heard"))*time.Second))
	}
	drawTarget(t, w, c)
	drawCalls(t, w.live.Target(target(c)))
}

func drawTarget(t *rapid.T, w *world, c catalog.ClusterName) {
	if rapid.IntRange(0, 2).Draw(t, "evidence") > 0 {
		return
	}
	te := route.TargetEvidence{Withheld: drawWithheld(t), EjectedUntil: drawUntil(t)}
	if c != own && rapid.Bool().Draw(t, "reported") {
		te.Reported, te.Ready, te.ReportedAt = true, rapid.Uint32Range(0, 4).Draw(t, "reported ready"), epoch
	}
	w.target(c, te)
}

func drawUntil(t *rapid.T) time.Time {
	switch rapid.IntRange(0, 3).Draw(t, "until") {
	case 0:
		return epoch.Add(time.Second)
	case 1:
		return epoch.Add(-time.Second)
	}
	return time.Time{}
}

func drawWithheld(t *rapid.T) float64 {
	return rapid.SampledFrom([]float64{0, 0, 0, 0.1, 0.5, 0.9, 1}).Draw(t, "withheld")
}

func drawCalls(t *rapid.T, c *route.Counters) {
	for range rapid.IntRange(0, 3).Draw(t, "calls") {
		c.Begin(epoch.UnixNano())
		c.End(epoch.UnixNano(), time.Duration(rapid.IntRange(1, 300).Draw(t, "took"))*time.Millisecond, true)
	}
	for range rapid.IntRange(0, 3).Draw(t, "in flight") {
		c.Begin(epoch.UnixNano())
	}
}

func drawPolicy(t *rapid.T, w *world) policy.Traffic {
	names := []catalog.ClusterName{own}
	for i := range w.table.Peers {
		names = append(names, w.table.Peers[i].Name)
	}
	p := policy.Traffic{Algorithm: rapid.SampledFrom(algorithms).Draw(t, "algorithm")}
	p.FailClosed = rapid.IntRange(0, 4).Draw(t, "fail closed") == 0
	if rapid.Bool().Draw(t, "threshold") {
		p.PanicThreshold = new(rapid.Uint32Range(0, 100).Draw(t, "panic"))
	}
	switch rapid.IntRange(0, 5).Draw(t, "rules") {
	case 0:
		p.Pin = rapid.SampledFrom(names).Draw(t, "pin")
	case 1:
		p.Clusters = rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, len(names), rapid.ID).Draw(t, "clusters")
	case 2:
		p.Weights = rapid.MapOfN(rapid.SampledFrom(names), rapid.Uint32Range(0, 9), 1, len(names)).Draw(t, "weights")
	case 3:
		p.DisableFailover = true
	}
	return p
}

func drawRequest(t *rapid.T, w *world) *route.Request {
	r := &route.Request{
		Service: billing, Port: rapid.SampledFrom([]string{"", "http", "http", "grpc"}).Draw(t, "port"),
		Random: rapid.Uint64().Draw(t, "random"), NowNanos: epoch.UnixNano() + rapid.Int64Range(0, int64(20*time.Second)).Draw(t, "now"),
	}
	if rapid.IntRange(0, 6).Draw(t, "pinned") == 0 {
		r.Pin = rapid.SampledFrom([]catalog.ClusterName{own, "p0", "p1", "p9"}).Draw(t, "pin to")
	}
	for range rapid.IntRange(0, 3).Draw(t, "tried") {
		if rapid.Bool().Draw(t, "tried own") && len(w.service().Endpoints) > 0 {
			r.Tried.Add(own, rapid.SampledFrom(w.service().Endpoints).Draw(t, "tried endpoint").ID)
		} else {
			r.Tried.Add(catalog.ClusterName(fmt.Sprintf("p%d", rapid.IntRange(0, 5).Draw(t, "tried peer"))), "")
		}
	}
	return r
}

// agrees fails unless the ledger names the choice, and the choice is consistent.
func agrees(t *rapid.T, what string, l *route.Ledger, c route.Choice) {
	if l.Status != c.Status || l.Mode != c.Mode {
		t.Fatalf("%s: ledger has %s/%s, pick %s/%s", what, l.Status, l.Mode, c.Status, c.Mode)
	}
	if (l.Choice != nil) != (c.Status == route.OK) || l.Why == "" {
		t.Fatalf("%s: status %s with choice %v (%q)", what, c.Status, l.Choice, l.Why)
	}
	if l.Choice == nil {
		return
	}
	id := ""
	if c.Endpoint != nil {
		id = c.Endpoint.ID
	}
	if l.Choice.Cluster != c.Target.Cluster || l.Choice.Endpoint != id || l.Choice.Service != c.Name || l.Choice.Port != c.Port {
		t.Fatalf("%s: ledger names %+v, pick %s/%s", what, *l.Choice, c.Target.Cluster, id)
	}
	if (c.Target.Cluster == own) != (c.Endpoint != nil) || (c.Endpoint != nil) != (c.EndpointCounters != nil) || c.Counters == nil {
		t.Fatalf("%s: the choice is torn: %+v", what, c)
	}
}

// Whatever the table, the evidence and the request: explain foresees what pick
// does, and a replay repeats it although all counters have moved on.
func TestLedgerNamesWhatPickChose(t *testing.T) {
	decisions := 0
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		p := w.compile()
		type past struct {
			choice route.Choice
			record route.Record
		}
		var history []past
		for range 150 {
			r := drawRequest(t, w)
			pick, explain := p.Pick, p.Explain
			if rapid.IntRange(0, 4).Draw(t, "inbound") == 0 {
				pick, explain = p.PickLocal, p.ExplainLocal
			}
			foreseen := explain(*r)
			c, rec := pick(r)
			agrees(t, "explain", foreseen, c)
			neverExcluded(t, foreseen, c, r)
			history = append(history, past{c, rec})
			if c.Counters != nil {
				c.Counters.Begin(r.NowNanos)
			}
			if c.EndpointCounters != nil {
				c.EndpointCounters.Begin(r.NowNanos)
				c.EndpointCounters.End(r.NowNanos, time.Duration(r.Random%1e9), r.Random%3 > 0)
			}
		}
		for _, h := range history {
			agrees(t, "replay", p.Replay(h.record), h.choice)
		}
		// A record of another plan is of no use, but does no harm.
		other := drawWorld(t).compile()
		for _, h := range history {
			other.Replay(h.record)
		}
		decisions += len(history)
	})
	if t.Logf("%d decisions replayed", decisions); decisions < 10_000 && !testing.Short() {
		t.Errorf("only %d decisions were replayed", decisions)
	}
}

// neverExcluded: what the ledger excludes is not chosen, but for panic, a
// probation and the suspicion of itself, which say so.
func neverExcluded(t *rapid.T, l *route.Ledger, c route.Choice, r *route.Request) {
	if c.Status != route.OK {
		return
	}
	for _, x := range l.Excluded {
		id := ""
		if c.Endpoint != nil {
			id = c.Endpoint.ID
		}
		if x.Cluster != c.Target.Cluster || x.Endpoint != "" && x.Endpoint != id || c.Endpoint != nil && x.Zone != l.Choice.Zone {
			continue // of another cluster, zone or endpoint
		}
		switch x.Reason {
		case route.RequestPin, route.AlreadyTried, route.PolicyPin, route.PolicyClusterList, route.PolicyWeightZero,
			route.PolicyFailoverOff, route.PortMissing, route.NotImported, route.RemoteNotForPeers, route.Withdrawn, route.LinkDraining:
			t.Fatalf("%s/%s was chosen although %s (%+v)", c.Target.Cluster, id, x.Reason, *r)
		case route.LinkDown, route.ControlLostDataDead:
			if c.Mode != route.SuspectSelf {
				t.Fatalf("%s was chosen in mode %s although %s", c.Target.Cluster, c.Mode, x.Reason)
			}
		default:
			if c.Mode == route.Normal {
				t.Fatalf("%s/%s was chosen in mode normal although %s", c.Target.Cluster, id, x.Reason)
			}
		}
	}
}

// The same table and evidence give the same plan, however often and in whatever
// order the lists come.
func TestCompileIsIdempotentAndIndependentOfOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		if w.service().Traffic != nil && w.service().Traffic.Algorithm == policy.RoundRobin {
			w.service().Traffic.Algorithm = policy.P2C // a turn moves the next one
		}
		a, b := w.compile(), w.compile()
		shuffled := *w.table
		shuffled.Peers = rapid.Permutation(w.table.Peers).Draw(t, "peers")
		s := *w.service()
		s.Endpoints = rapid.Permutation(s.Endpoints).Draw(t, "endpoints")
		s.Remote = rapid.Permutation(s.Remote).Draw(t, "remote")
		shuffled.Services = []route.Service{s}
		c := route.Compile(&shuffled, w.evidence, w.live)
		for range 10 {
			r := *drawRequest(t, w)
			want := text(t, a.Explain(r))
			for name, p := range map[string]*route.Plan{"again": b, "shuffled": c} {
				if got := text(t, p.Explain(r)); got != want {
					t.Fatalf("%s:\n%s, want\n%s", name, got, want)
				}
			}
		}
	})
}

func text(t interface{ Fatal(...any) }, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Whatever the weights, draws follow them.
func TestDrawsFollowAnyWeights(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(t, "endpoints")
		w := newWorld().local("az1", n)
		var sum float64
		for i := range n {
			weight := rapid.Uint32Range(1, 100).Draw(t, "weight")
			w.service().Endpoints[i].Weight = weight
			sum += float64(weight)
		}
		alg := rapid.SampledFrom([]policy.Algorithm{policy.Weighted, policy.RoundRobin}).Draw(t, "algorithm")
		p := w.policy(policy.Traffic{Algorithm: alg}).compile()
		const calls = 5000
		got := count(p, calls, nil)
		for i := range n {
			ep := &w.service().Endpoints[i]
			want, have := float64(ep.Weight)/sum, float64(got[ep.ID])/calls
			// Five standard deviations of a fair draw are at most 0.036.
			if have < want-0.036 || have > want+0.036 {
				t.Fatalf("%s: %s has %.3f, want %.3f (%v)", alg, ep.ID, have, want, slices.Collect(weightsOf(w)))
			}
		}
	})
}

func weightsOf(w *world) func(func(uint32) bool) {
	return func(yield func(uint32) bool) {
		for _, ep := range w.service().Endpoints {
			if !yield(ep.Weight) {
				return
			}
		}
	}
}
