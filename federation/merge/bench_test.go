package merge_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/merge"
)

func bigSource(b *testing.B, source string, services, endpoints int) *catalog.Snapshot {
	b.Helper()
	list := make([]*catalog.Service, services)
	for i := range list {
		s := &catalog.Service{Name: name(fmt.Sprintf("s%d.n%d", i, i%50)), Ports: ports("http", "http")}
		s.Endpoints = make([]catalog.Endpoint, endpoints)
		for j := range s.Endpoints {
			s.Endpoints[j] = catalog.Endpoint{
				ID: fmt.Sprintf("%s-%d", source, j), Port: "http", Weight: 1, Health: catalog.Passing,
				Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i % 200), byte(j / 250), byte(j%250 + 1)}), 80),
			}
		}
		list[i] = s
	}
	snap, err := catalog.NewSnapshot(source, list)
	if err != nil {
		b.Fatal(err)
	}
	return snap
}

func bigPeers(n, services int) (out []merge.Peer) {
	for c := range n {
		p := merge.Peer{Cluster: catalog.ClusterName(fmt.Sprintf("peer-%d", c))}
		for i := range services {
			p.Summaries = append(p.Summaries, summary(fmt.Sprintf("s%d.n%d", i, i%50), ports("http", "http"), catalog.SummaryRow{Port: "http", Ready: 1, Total: 1}))
		}
		out = append(out, p)
	}
	return out
}

func BenchmarkMergeMillionEndpoints(b *testing.B) {
	in := merge.Input{
		Cluster: "here", Import: takeAll, Peers: bigPeers(10, 5000),
		Sources: []merge.Source{{Name: "a", Snapshot: bigSource(b, "a", 5000, 200)}},
	}
	b.ReportAllocs()
	for b.Loop() {
		merge.Merge(in)
	}
}

func BenchmarkUpdateOneServiceOfMillionEndpoints(b *testing.B) {
	snap := bigSource(b, "a", 5000, 200)
	in := merge.Input{Cluster: "here", Import: takeAll, Rules: new(int), Peers: bigPeers(10, 5000), Sources: []merge.Source{{Name: "a", Snapshot: snap}}}
	v := merge.Merge(in)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		changed := snap.Get(name("s7.n7")).Clone()
		changed.Endpoints[0].Weight = uint32(i%9 + 1)
		next, err := snap.With([]*catalog.Service{changed}, nil)
		if err != nil {
			b.Fatal(err)
		}
		in.Sources[0].Snapshot = next
		v = merge.Update(v, in)
	}
}
