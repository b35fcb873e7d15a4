package merge_test

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/merge"
)

// Three services of one peer under one name: the one that an import names, then
// the one that is called so, then the one whose namespace is mapped; whoever loses
// is shown.
func TestServicesThatAMapPutsUnderOneName(t *testing.T) {
	ports := []catalog.Port{{Name: "http", Protocol: catalog.HTTP}}
	summary := func(n string) *catalog.Summary { return &catalog.Summary{Service: name(n), Ports: ports} }
	rules := map[string]merge.Import{
		"web.shop":  {Rule: "all", As: name("web.store"), Mapped: true},
		"web.old":   {Rule: "all", As: name("web.store"), Mapped: true},
		"web.store": {Rule: "all", As: name("web.store"), Mapped: true},
		"www.x":     {Rule: "one", As: name("web.store")},
		"cart.shop": {Rule: "all", As: name("cart.store"), Mapped: true},
	}
	for _, c := range []struct {
		offered []string
		winner  string
		why     merge.Why
	}{
		{[]string{"www.x", "web.store", "web.shop"}, "www.x", merge.ByRename},
		{[]string{"web.store", "web.shop", "web.old"}, "web.store", merge.ByOwnName},
		{[]string{"web.shop", "web.old"}, "web.old", merge.ByName},
		{[]string{"cart.shop"}, "cart.shop", ""},
	} {
		in := merge.Input{Cluster: "here", Import: func(_ catalog.ClusterName, n catalog.ServiceName) (merge.Import, bool) {
			r, ok := rules[n.String()]
			return r, ok
		}}
		p := merge.Peer{Cluster: "gcp"}
		for _, n := range c.offered {
			p.Summaries = append(p.Summaries, summary(n))
		}
		in.Peers = []merge.Peer{p}
		v := merge.Merge(in)
		s := v.Get(rules[c.offered[0]].As)
		if v.Len() != 1 || s == nil || len(s.Offers) != 1 || s.Offers[0].Name.String() != c.winner {
			t.Errorf("%v: %+v", c.offered, s)
			continue
		}
		if c.why == "" {
			if len(s.Conflicts) != 0 {
				t.Errorf("%v: %+v", c.offered, s.Conflicts)
			}
			continue
		}
		if len(s.Conflicts) != 1 || s.Conflicts[0].Why != c.why || s.Conflicts[0].Winner.Service.String() != c.winner || len(s.Conflicts[0].Losers) != len(c.offered)-1 {
			t.Errorf("%v: %+v, want why %s", c.offered, s.Conflicts, c.why)
		}
	}
}
