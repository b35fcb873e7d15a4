package catalog_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

func bigSnapshot(b *testing.B, services, endpoints int) *catalog.Snapshot {
	b.Helper()
	all := make([]*catalog.Service, services)
	for i := range all {
		s := service(fmt.Sprintf("svc-%d.ns-%d", i, i%20))
		for j := range endpoints {
			e := endpoint(fmt.Sprint(j), "10.0.0.1:80")
			e.Address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), byte(j + 1)}), 80)
			e.Labels = map[string]string{"version": "v1"}
			s.Endpoints = append(s.Endpoints, e)
		}
		all[i] = s
	}
	return snapshot(b, all...)
}

// One service of 10,000 changes.
func BenchmarkWith(b *testing.B) {
	old := bigSnapshot(b, 10_000, 10)
	changed := []*catalog.Service{old.Get(catalog.MustServiceName("svc-77.ns-17")).Clone()}
	changed[0].Endpoints[0].Weight = 7
	b.ReportAllocs()
	for b.Loop() {
		if _, err := old.With(changed, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDiff(b *testing.B) {
	old := bigSnapshot(b, 10_000, 10)
	changed := old.Get(catalog.MustServiceName("svc-77.ns-17")).Clone()
	changed.Endpoints[0].Weight = 7
	next, err := old.With([]*catalog.Service{changed}, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if d := catalog.Diff(old, next); len(d.Upserts) != 1 {
			b.Fatal(d)
		}
	}
}

func BenchmarkNewSnapshot(b *testing.B) {
	var all []*catalog.Service
	for s := range bigSnapshot(b, 10_000, 10).All() {
		all = append(all, s)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := catalog.NewSnapshot("test", all); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkJSON(b *testing.B) {
	s := bigSnapshot(b, 1_000, 10)
	b.ReportAllocs()
	for b.Loop() {
		data, err := json.Marshal(s)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(data)))
	}
}
