package exchange_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/exchange"
)

// largest is a catalog at its quota of services, with ten rows each.
func largest() exchange.State {
	s := state()
	for i := range 5000 {
		v := summary(fmt.Sprintf("service-%d.namespace-%d", i, i%50), 1)
		v.Rows = nil
		for z := range 10 {
			v.Rows = append(v.Rows, catalog.SummaryRow{Port: "http", Zone: fmt.Sprintf("use1-az%d", z), Ready: 3, Total: 4})
		}
		s.Services = append(s.Services, v)
	}
	return s
}

func BenchmarkFullList(b *testing.B) {
	f := exchange.NewFeed("gcp", 1)
	if _, err := f.Set(largest()); err != nil {
		b.Fatal(err)
	}
	size := 0
	for _, l := range f.Since(exchange.Position{}, true) {
		size += len(l) + 1
	}
	b.ReportAllocs()
	b.SetBytes(int64(size))
	for b.Loop() {
		if _, err := feed(newApplier(), f.Since(exchange.Position{}, true), t0); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDeltaOfOneService(b *testing.B) {
	f := exchange.NewFeed("gcp", 1)
	s := largest()
	if _, err := f.Set(s); err != nil {
		b.Fatal(err)
	}
	a := newApplier()
	if _, err := feed(a, f.Since(exchange.Position{}, true), t0); err != nil {
		b.Fatal(err)
	}
	at := t0
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.Services = slices.Clone(s.Services)
		s.Services[7] = summary("service-7.namespace-7", i%9)
		if _, err := f.Set(s); err != nil {
			b.Fatal(err)
		}
		have, full := a.Connected()
		at = at.Add(time.Second)
		if _, err := feed(a, f.Since(have, full), at); err != nil {
			b.Fatal(err)
		}
	}
}
