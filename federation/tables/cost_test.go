package tables_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/merge"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/federation/tables"
)

// oneChange counts what the change of one endpoint allocates on its way from a
// source's snapshot to the table and to what peers are told, with so many services.
func oneChange(t *testing.T, services int) (allocs, bytes float64) {
	t.Helper()
	list := make([]*catalog.Service, services)
	for i := range list {
		s := &catalog.Service{Name: name(fmt.Sprintf("s%05d.shop", i)), Ports: http}
		for j := range 10 {
			e := endpoint(fmt.Sprint(j), "a", catalog.Passing, nil)
			e.Address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), byte(j)}), 80)
			s.Endpoints = append(s.Endpoints, e)
		}
		list[i] = s
	}
	ix := policy.NewIndex(policy.Set{Exports: []policy.Export{{Name: "all", Services: []policy.ServicePattern{"*"}, To: []string{"*"}}}})
	src := source(t, list...)
	in := merge.Input{Cluster: "aws", Sources: []merge.Source{src}, Import: tables.Imports(ix), Rules: ix}
	var peers []route.Peer
	for i := range 50 {
		peers = append(peers, route.Peer{Name: catalog.ClusterName(fmt.Sprintf("p%02d", i))})
	}
	var b tables.Builder
	var x tables.Exports
	var v *merge.View
	version := 0
	step := func() {
		v = merge.Update(v, in)
		b.Next(tables.Input{View: v, Policy: ix, Peers: peers, Epoch: 1, Version: uint64(version)})
		x.Update(v, nil, ix)
		x.For("p01")
	}
	step()
	// The changes are made before, so that they are not counted.
	const changes = 64
	snapshots := []*catalog.Snapshot{src.Snapshot}
	for i := range changes + 1 {
		changed := snapshots[i].Get(list[(i*977)%services].Name).Clone()
		changed.Endpoints[0].Health = catalog.Critical
		next, err := snapshots[i].With([]*catalog.Service{changed}, nil)
		if err != nil {
			t.Fatal(err)
		}
		snapshots = append(snapshots, next)
	}
	run := func() {
		version++
		in.Sources = []merge.Source{{Name: src.Name, Snapshot: snapshots[version]}}
		step()
	}
	var before, after runtime.MemStats
	run()
	runtime.ReadMemStats(&before)
	for range changes {
		run()
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / changes, float64(after.TotalAlloc-before.TotalAlloc) / changes
}

// A change costs as many allocations in a large catalog as in a small one, and of
// bytes no more than a list of pointers in each of view, table and exports. It is
// counted, and not timed, so that it holds on any machine.
func TestAChangeAllocatesWhatItChanges(t *testing.T) {
	const small, large = 500, 5000
	allocs, bytes := oneChange(t, small)
	more, largeBytes := oneChange(t, large)
	t.Logf("figure: a change allocates %.0f times and %.0f bytes of %d services, %.0f times and %.0f bytes of %d", allocs, bytes, small, more, largeBytes, large)
	if more > 1.1*allocs+5 {
		t.Errorf("%.0f allocations of %d services, %.0f of %d", allocs, small, more, large)
	}
	const lists, pointer, rounding = 3, 8, 1.25 // to a size class
	if most := bytes + rounding*lists*pointer*(large-small); largeBytes > most {
		t.Errorf("%.0f bytes of %d services, want at most %.0f", largeBytes, large, most)
	}
	if most := 64e3; bytes > most {
		t.Errorf("%.0f bytes of %d services, want at most %.0f", bytes, small, most)
	}
}
