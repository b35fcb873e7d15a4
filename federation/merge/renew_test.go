package merge_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/merge"
)

// What a change of one side leaves as it was is the same memory afterwards: who
// compares views, tables and lists sees at once that nothing is to be done there.
func TestAChangeSharesWhatItLeaves(t *testing.T) {
	ports := []catalog.Port{{Name: "http", Protocol: catalog.HTTP}}
	service := func(weight uint32) *catalog.Service {
		return &catalog.Service{Name: name("web.a"), Ports: ports, Endpoints: []catalog.Endpoint{{
			ID: "1", Port: "http", Address: netip.MustParseAddrPort("10.0.0.1:80"), Weight: weight, Health: catalog.Passing,
		}}}
	}
	summary := func(ready uint32, ports ...catalog.Port) *catalog.Summary {
		s := &catalog.Summary{Service: name("web.a"), Ports: ports}
		for _, p := range ports {
			s.Rows = append(s.Rows, catalog.SummaryRow{Port: p.Name, Ready: ready, Total: 9})
		}
		return s
	}
	snapshot := func(s *catalog.Service) *catalog.Snapshot {
		out, err := catalog.NewSnapshot("one", []*catalog.Service{s})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	in := merge.Input{
		Cluster: "own", Rules: new(int),
		Import: func(_ catalog.ClusterName, n catalog.ServiceName) (merge.Import, bool) {
			return merge.Import{Rule: "all", As: n}, true
		},
		Sources: []merge.Source{{Name: "one", Snapshot: snapshot(service(1))}},
	}
	for i := range 3 {
		in.Peers = append(in.Peers, merge.Peer{Cluster: catalog.ClusterName(fmt.Sprintf("p%d", i)), Summaries: []*catalog.Summary{summary(1, ports...)}})
	}
	v := merge.Merge(in)
	was := v.Get(name("web.a"))

	in.Sources = []merge.Source{{Name: "one", Snapshot: snapshot(service(2))}}
	v = merge.Update(v, in)
	is := v.Get(name("web.a"))
	if is.Local.Endpoints[0].Weight != 2 {
		t.Fatalf("the view has %+v", is.Local.Endpoints)
	}
	if &is.Offers[0] != &was.Offers[0] || &is.Ports[0] != &was.Ports[0] || &is.Provenance[0] != &was.Provenance[0] {
		t.Error("an endpoint's weight has made offers, ports or origins anew")
	}

	in.Peers = []merge.Peer{in.Peers[0], {Cluster: "p1", Summaries: []*catalog.Summary{summary(5, ports...)}}, in.Peers[2]}
	before := is
	v = merge.Update(v, in)
	is = v.Get(name("web.a"))
	if is.Local != before.Local || &is.Ports[0] != &before.Ports[0] || &is.Offers[0].Rows[0] != &before.Offers[0].Rows[0] {
		t.Error("a peer's row has made own endpoints, ports or the rows of others anew")
	}
	if is.Offers[1].Rows[0].Ready != 5 || before.Offers[1].Rows[0].Ready != 1 {
		t.Errorf("the view has %+v, and the one before %+v", is.Offers, before.Offers)
	}

	// A port more is another matter.
	more := summary(5, ports[0], catalog.Port{Name: "metrics", Protocol: catalog.HTTP})
	in.Peers = []merge.Peer{in.Peers[0], {Cluster: "p1", Summaries: []*catalog.Summary{more}}, in.Peers[2]}
	v = merge.Update(v, in)
	if is = v.Get(name("web.a")); len(is.Ports) != 2 || len(is.Provenance) != 2 || !v.Equal(merge.Merge(in)) {
		t.Errorf("the view has ports %v by %v", is.Ports, is.Provenance)
	}
}
