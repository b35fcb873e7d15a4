package tables_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/merge"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/federation/tables"
	"pgregory.net/rapid"
)

// stepper is a cluster whose catalog, peers, policy and evidence change step by
// step.
type stepper struct {
	services []string
	in       merge.Input
	ix       *policy.Index
	peers    []route.Peer
	view     *merge.View
	ready    *tables.Readiness
}

func drawIndex(t *rapid.T) *policy.Index {
	set := policy.Set{Imports: []policy.Import{{Name: "all", From: "gcp", Services: []policy.ServicePattern{"*"}}}}
	for _, to := range []string{"*", "gcp", "onprem"} {
		if rapid.Bool().Draw(t, "export to "+to) {
			set.Exports = append(set.Exports, policy.Export{
				Name: "to-" + map[string]string{"*": "all", "gcp": "gcp", "onprem": "onprem"}[to], To: []string{to},
				Services: []policy.ServicePattern{rapid.SampledFrom([]policy.ServicePattern{"*", "*.a", "web.a"}).Draw(t, "services")},
			})
		}
	}
	if rapid.Bool().Draw(t, "traffic") {
		set.Traffic = []policy.Traffic{{Name: "pinned", Services: []policy.ServicePattern{"web.a"}, Pin: "gcp"}}
	}
	return policy.NewIndex(set)
}

func (s *stepper) step(t *rapid.T) {
	switch rapid.IntRange(0, 6).Draw(t, "what") {
	case 0, 1, 2:
		var put []*catalog.Service
		var remove []catalog.ServiceName
		for _, n := range rapid.SliceOfNDistinct(rapid.SampledFrom(s.services), 0, 2, rapid.ID).Draw(t, "services") {
			if rapid.IntRange(0, 3).Draw(t, "remove") == 0 {
				remove = append(remove, name(n))
				continue
			}
			svc := &catalog.Service{Name: name(n), Ports: http}
			for i := range rapid.IntRange(0, 3).Draw(t, "endpoints") {
				svc.Endpoints = append(svc.Endpoints, endpoint(string(rune('1'+i)), "a", rapid.SampledFrom(catalog.Healths()).Draw(t, "health"), nil))
			}
			put = append(put, svc)
		}
		next, err := s.in.Sources[0].Snapshot.With(put, remove)
		if err != nil {
			t.Fatal(err)
		}
		s.in.Sources = []merge.Source{{Name: "s", Snapshot: next}}
	case 3:
		p := merge.Peer{Cluster: "gcp", ControlLost: rapid.Bool().Draw(t, "lost")}
		for _, n := range rapid.SliceOfNDistinct(rapid.SampledFrom(s.services), 0, 3, rapid.ID).Draw(t, "offers") {
			p.Summaries = append(p.Summaries, &catalog.Summary{Service: name(n), Ports: http, Rows: []catalog.SummaryRow{{Port: "http", Ready: 1, Total: uint32(rapid.IntRange(1, 3).Draw(t, "total"))}}})
		}
		slices.SortFunc(p.Summaries, func(a, b *catalog.Summary) int { return a.Service.Compare(b.Service) })
		s.in.Peers = []merge.Peer{p}
	case 4:
		s.ix = drawIndex(t)
		s.in.Import, s.in.Rules = tables.Imports(s.ix), s.ix
	case 5:
		s.peers = []route.Peer{{Name: "gcp", ControlLost: rapid.Bool().Draw(t, "lost")}}
		if rapid.Bool().Draw(t, "onprem") {
			s.peers = append(s.peers, route.Peer{Name: "onprem"})
		}
	default:
		var down []route.EndpointReport
		for _, n := range s.services {
			if rapid.Bool().Draw(t, "down") {
				down = append(down, route.EndpointReport{Endpoint: route.EndpointKey{Service: name(n), Port: "http", ID: "1"}, Known: true})
			}
		}
		s.ready = tables.NewReadiness([]*route.Report{{Endpoints: down}})
	}
	s.view = merge.Update(s.view, s.in)
}

// However things change, the table that a Builder makes of what has changed is
// the one that Build makes of everything, an unchanged one is the one before, and
// Exports tells each peer what a Summarizer that remembers nothing would.
func TestStepByStepIsFromScratch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		empty, err := catalog.NewSnapshot("s", nil)
		if err != nil {
			t.Fatal(err)
		}
		s := &stepper{services: []string{"db.a", "web.a", "web.b", "x.b"}, ix: drawIndex(t), peers: []route.Peer{{Name: "gcp"}}}
		s.in = merge.Input{Cluster: "aws", Sources: []merge.Source{{Name: "s", Snapshot: empty}}, Import: tables.Imports(s.ix), Rules: s.ix}
		var b tables.Builder
		var x tables.Exports
		var last *route.Table
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			s.step(t)
			in := tables.Input{Cluster: route.Cluster{Name: "aws"}, Peers: s.peers, View: s.view, Policy: s.ix, Epoch: 1}
			edition, want := b.Next(in), tables.Build(in)
			got := edition.Table()
			said := encode(t, want)
			if encode(t, got) != said {
				t.Fatalf("step by step %s\nfrom scratch %s", encode(t, got), said)
			}
			if (got == last) != (last != nil && encode(t, last) == said) {
				t.Fatalf("a new table is told: %v", got != last)
			}
			last = got
			x.Update(s.view, s.ready, s.ix)
			for _, peer := range []catalog.ClusterName{"gcp", "onprem", "other"} {
				var z tables.Summarizer
				a, c := encode(t, x.For(peer)), encode(t, z.Summaries(s.view, s.ready, s.ix, peer))
				if a != c && len(x.For(peer)) > 0 {
					t.Fatalf("%s is told %s, from scratch %s", peer, a, c)
				}
			}
		}
	})
}

func encode(t *rapid.T, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
