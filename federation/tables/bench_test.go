package tables_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/merge"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/federation/tables"
)

// million is a cluster of 5,000 services with 200 endpoints each, all exported.
func million(b *testing.B) (merge.Source, *policy.Index) {
	b.Helper()
	services := make([]*catalog.Service, 5000)
	for i := range services {
		s := &catalog.Service{Name: name(fmt.Sprintf("s%d.shop", i)), Ports: http}
		for j := range 200 {
			e := endpoint(fmt.Sprint(j), string(rune('a'+j%3)), catalog.Passing, nil)
			e.Address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), byte(j)}), 80)
			s.Endpoints = append(s.Endpoints, e)
		}
		services[i] = s
	}
	return source(b, services...), policy.NewIndex(policy.Set{Exports: []policy.Export{{Name: "all", Services: []policy.ServicePattern{"*"}, To: []string{"*"}}}})
}

// One service of a million endpoints changes: view, table, comparison with the
// table before, and the summaries for one peer.
func BenchmarkOneChangeOfMillionEndpoints(b *testing.B) {
	src, ix := million(b)
	in := merge.Input{Cluster: "aws", Sources: []merge.Source{src}}
	v := merge.Merge(in)
	peers := []route.Peer{{Name: "gcp"}}
	table := tables.Build(tables.Input{View: v, Policy: ix, Peers: peers})
	var z tables.Summarizer
	z.Summaries(v, nil, ix, "gcp")
	snap := src.Snapshot
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		changed := snap.Get(name("s7.shop")).Clone()
		changed.Endpoints[0].Weight = uint32(i%9 + 2)
		next, err := snap.With([]*catalog.Service{changed}, nil)
		if err != nil {
			b.Fatal(err)
		}
		in.Sources[0].Snapshot = next
		v = merge.Update(v, in)
		fresh := tables.Build(tables.Input{View: v, Policy: ix, Peers: peers})
		if tables.Same(table, fresh) && i > 0 && i%9 != 0 {
			b.Fatal("the change is not seen")
		}
		table = fresh
		z.Summaries(v, nil, ix, "gcp")
	}
}
