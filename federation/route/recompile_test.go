package route_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// crowd is a table of n services: each with own endpoints in two zones and offers of
// three of the peers, some with policies.
func crowd(n, peers int) *world {
	w := newWorld()
	w.evidence.Demands = map[route.PortKey]route.PortDemand{}
	for i := range peers {
		w.peer(fmt.Sprintf("p%d", i), []string{"aws/us-east-1", "gcp", "azure"}[i%3], time.Duration(5+10*i)*time.Millisecond, 0, 0)
	}
	w.table.Services = nil
	for i := range n {
		w.table.Services = append(w.table.Services, crowdService(i, peers))
	}
	return w
}

func crowdName(i int) catalog.ServiceName { return catalog.MustServiceName(fmt.Sprintf("s%06d", i)) }

func crowdService(i, peers int) route.Service {
	s := route.Service{Name: crowdName(i), Ports: []catalog.Port{{Name: "http", Protocol: catalog.HTTP}}, ExportedTo: []catalog.ClusterName{"p0"}}
	for k := range 3 {
		s.Endpoints = append(s.Endpoints, catalog.Endpoint{
			ID: fmt.Sprintf("e%d", k), Port: "http", Weight: 1, Health: catalog.Passing, Locality: here.WithZone(fmt.Sprintf("az%d", 1+k%2)),
			Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), byte(k)}), 80),
		})
		s.Remote = append(s.Remote, route.Remote{
			Cluster: catalog.ClusterName(fmt.Sprintf("p%d", (i+k)%peers)), Name: s.Name, Ports: slices.Clone(s.Ports),
			Rows: []catalog.SummaryRow{{Port: "http", Ready: 2, Total: 3}},
		})
	}
	slices.SortFunc(s.Remote, func(a, b route.Remote) int { return compareText(a.Cluster, b.Cluster) })
	return s
}

// policies that a service of the crowd may have.
func crowdPolicy(i int) *policy.Traffic {
	t := &policy.Traffic{Name: fmt.Sprintf("t%d", i), Services: []policy.ServicePattern{"*"}}
	switch i % 6 {
	case 0:
		return nil
	case 1:
		t.Algorithm = policy.RoundRobin
	case 2:
		*t = sticky(policy.Maglev)
	case 3:
		t.SlowStart = &policy.SlowStart{WindowSeconds: 30}
	case 4:
		t.Capacity = &policy.Capacity{PerEndpoint: 10}
	case 5:
		t.Weights = map[catalog.ClusterName]uint32{own: 50, "p0": 50}
	}
	return t
}

// copied is a world whose maps and lists may be changed without changing those of plans.
func (w *world) copied() *world {
	t, e := *w.table, *w.evidence
	t.Services, t.Peers = slices.Clone(t.Services), slices.Clone(t.Peers)
	e.Links, e.Targets, e.Endpoints, e.Demands = maps.Clone(e.Links), maps.Clone(e.Targets), maps.Clone(e.Endpoints), maps.Clone(e.Demands)
	if e.Zones = maps.Clone(e.Zones); e.Zones == nil {
		e.Zones = make(map[route.ZoneKey]route.ZoneEvidence)
	}
	return &world{table: &t, evidence: &e, live: w.live}
}

// edit makes one change of what may change.
func (w *world) edit(rnd *rand.Rand, peers int) string {
	t, e := w.table, w.evidence
	at := rnd.IntN(len(t.Services))
	s := &t.Services[at]
	peer := catalog.ClusterName(fmt.Sprintf("p%d", rnd.IntN(peers)))
	to := route.Target{Service: s.Name, Port: "http", Cluster: []catalog.ClusterName{own, peer}[rnd.IntN(2)]}
	key := route.EndpointKey{Service: s.Name, Port: "http", ID: fmt.Sprintf("e%d", rnd.IntN(3))}
	link, te := e.Links[peer], e.Targets[to]
	defer func() { e.Links[peer] = link }()
	switch what := rnd.IntN(24); what {
	case 0:
		e.Now = e.Now.Add(time.Duration(rnd.IntN(40)) * time.Second)
		return "time passes"
	case 1:
		link.Up, link.Since = !link.Up, e.Now
		return "a link changes"
	case 2:
		link.RTT = time.Duration(1+rnd.IntN(100)) * time.Millisecond
		return "a round trip changes"
	case 3:
		link.Loss = rnd.Float64()
		return "a loss changes"
	case 4:
		link.Withheld = rnd.Float64()
		return "a ramp moves"
	case 5:
		te.Processing, te.Others = time.Duration(rnd.IntN(50))*time.Millisecond, uint64(rnd.IntN(9))
		te.Withheld, te.Share = rnd.Float64(), rnd.Float64()
	case 6:
		te.EjectedUntil, te.Reason = e.Now.Add(time.Duration(rnd.IntN(20)-5)*time.Second), "five in a row"
	case 7:
		te = route.TargetEvidence{}
	case 8:
		te.Reported, te.ReportedAt, te.Ready, te.Total = true, e.Now, uint32(rnd.IntN(3)), 3
	case 9:
		te.ReportedAt = e.Now.Add(-time.Duration(rnd.IntN(40)) * time.Second)
	case 10:
		te.Capacity, te.Granted, te.GrantedUntil = 30, route.Graded{Any: uint64(rnd.IntN(10)), Default: uint64(rnd.IntN(9)), Critical: uint64(rnd.IntN(9))}, e.Now.Add(time.Duration(rnd.IntN(10))*time.Second)
	case 11:
		e.Endpoints[key] = route.EndpointEvidence{Healthy: rnd.IntN(2) == 0, Reason: "connect refused", Since: e.Now}
		return "a check speaks"
	case 12:
		e.Endpoints[key] = route.EndpointEvidence{Healthy: true, EjectedUntil: e.Now.Add(time.Duration(rnd.IntN(20)-5) * time.Second)}
		return "an endpoint is ejected"
	case 13:
		delete(e.Endpoints, key)
		return "a check falls silent"
	case 14:
		e.Demands[route.PortKey{Service: s.Name, Port: "http"}] = route.PortDemand{Own: route.ByPriority{rnd.Float64() * 30, rnd.Float64() * 10, 0}}
		return "a demand moves"
	case 22:
		zone := route.ZoneKey{Target: to, Zone: []string{"az1", "az2"}[rnd.IntN(2)]}
		e.Zones[zone] = route.ZoneEvidence{Out: to.Cluster != own, EjectedUntil: e.Now.Add(time.Duration(rnd.IntN(20)-5) * time.Second), Reason: "so"}
		return "a zone is ejected"
	case 23:
		delete(e.Zones, route.ZoneKey{Target: to, Zone: []string{"az1", "az2"}[rnd.IntN(2)]})
		return "a zone is back"
	case 15:
		s.Traffic = crowdPolicy(rnd.IntN(60))
		return "a policy changes"
	case 16:
		s.Endpoints = slices.Clone(s.Endpoints)
		s.Endpoints[rnd.IntN(len(s.Endpoints))].Health = []catalog.Health{catalog.Passing, catalog.Critical}[rnd.IntN(2)]
		return "a source speaks"
	case 17:
		t.Services = slices.Delete(t.Services, at, at+1)
		return "a service goes"
	case 18:
		next := crowdService(int(rnd.Uint32()%1_000_000), peers)
		k, has := slices.BinarySearchFunc(t.Services, next.Name, func(a route.Service, n catalog.ServiceName) int { return a.Name.Compare(n) })
		if !has {
			t.Services = slices.Insert(t.Services, k, next)
		}
		return "a service comes"
	case 19:
		for i := range t.Peers {
			if p := &t.Peers[i]; p.Name == peer {
				p.ControlLost = rnd.IntN(2) == 0
				p.HeardAt = e.Now.Add(-time.Duration(rnd.IntN(100)) * time.Second)
			}
		}
		return "a federation is heard, or not"
	case 20:
		e.Switches = route.Switches{FailoverOff: rnd.IntN(2) == 0}
		return "a switch is set"
	default:
		s.Remote = slices.Clone(s.Remote)
		s.Remote[rnd.IntN(len(s.Remote))].Rows = []catalog.SummaryRow{{Port: "http", Ready: uint32(rnd.IntN(4)), Total: 3}}
		return "a summary changes"
	}
	e.Targets[to] = te
	return fmt.Sprintf("evidence of %v changes", to)
}

// decisions is what a plan says of every service: each candidate, with why.
func decisions(t *testing.T, p *route.Plan, random uint64, at time.Time) (out []string) {
	t.Helper()
	for i := range p.Table().Services {
		r := route.Request{Service: p.Table().Services[i].Name, Random: random, Hash: random | 1, NowNanos: at.UnixNano()}
		for _, ledger := range []*route.Ledger{p.Explain(r), p.ExplainLocal(r)} {
			b, err := json.Marshal(ledger)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, string(b))
		}
	}
	for w := range p.Wants() {
		out = append(out, fmt.Sprintf("wants %+v", w))
	}
	for r := range p.Readiness() {
		out = append(out, fmt.Sprintf("has %+v", r))
	}
	slices.Sort(out)
	return out
}

// TestRecompileIsCompile: after any series of changes, a plan that was made of the one
// before says of every service what a plan says that was made anew.
func TestRecompileIsCompile(t *testing.T) {
	const services, peers, edits = 30, 5, 150
	for seed := range uint64(3) {
		rnd := rand.New(rand.NewPCG(seed, 9))
		w := crowd(services, peers)
		for i := range w.table.Services {
			w.table.Services[i].Traffic = crowdPolicy(i)
		}
		last := w.compile()
		for step := range edits {
			var did []string
			w = w.copied()
			for range 1 + rnd.IntN(3) {
				did = append(did, w.edit(rnd, peers))
			}
			last = route.Recompile(last, w.table, w.evidence, w.live)
			if step%5 > 0 {
				continue // several in a row, that what is taken over is old
			}
			random := rnd.Uint64()
			got, want := decisions(t, last, random, w.evidence.Now), decisions(t, w.compile(), random, w.evidence.Now)
			for i := range want {
				if i >= len(got) || got[i] != want[i] {
					t.Fatalf("seed %d, step %d, after %v: the plan says\n%s\nand one that is made anew\n%s", seed, step, did, got[i], want[i])
				}
			}
			if len(got) != len(want) {
				t.Fatalf("seed %d, step %d: %d decisions, want %d", seed, step, len(got), len(want))
			}
			w.live.Prune(last)
		}
	}
}

// BenchmarkServices: a table of 100,000 services, each of three own endpoints and three
// offers; with evidence of all of them, or of none. The peer is a plan made anew.
func BenchmarkServices(b *testing.B) {
	for _, evidence := range []bool{false, true} {
		b.Run(fmt.Sprintf("evidence=%v", evidence), func(b *testing.B) { benchServices(b, evidence) })
	}
}

func benchServices(b *testing.B, evidence bool) {
	const services, peers = 100_000, 10
	w := crowd(services, peers)
	if evidence {
		for i := range w.table.Services {
			s := &w.table.Services[i]
			for k := range s.Remote {
				w.evidence.Targets[route.Target{Service: s.Name, Port: "http", Cluster: s.Remote[k].Cluster}] = route.TargetEvidence{
					Reported: true, Ready: 2, Total: 3, ReportedAt: epoch, Processing: time.Millisecond,
				}
			}
		}
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	last := w.compile()
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.Run("anew", func(b *testing.B) {
		for b.Loop() {
			w.compile()
		}
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/services, "B/service")
	})
	b.Run("one changes", func(b *testing.B) {
		b.ReportAllocs()
		e := *w.evidence
		i := 0
		for b.Loop() {
			i++
			to := route.Target{Service: crowdName(i % services), Port: "http", Cluster: own}
			e.Targets = maps.Clone(w.evidence.Targets)
			e.Targets[to] = route.TargetEvidence{Withheld: 0.5}
			next := e
			last = route.Recompile(last, w.table, &next, w.live)
		}
	})
	b.Run("nothing changes", func(b *testing.B) {
		for b.Loop() {
			last = route.Recompile(last, w.table, w.evidence, w.live)
		}
	})
	b.Run("pick", func(b *testing.B) {
		r := request(0)
		names := make([]catalog.ServiceName, 4096)
		for i := range names {
			names[i] = crowdName(i * 23 % services)
		}
		b.ReportAllocs()
		for b.Loop() {
			r.Random++
			r.Service = names[r.Random%4096]
			if c, _ := last.Pick(r); c.Status != route.OK {
				b.Fatal(c.Status)
			}
		}
	})
}
