package discovery_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// One service of 10,000 with ten endpoints each changes from read to read.
func BenchmarkGuardOffer(b *testing.B) {
	w := world{}
	for i := range 10_000 {
		w[fmt.Sprintf("s%d", i)] = ids("e", 10)
	}
	one := w.snapshot(b)
	changed := one.Get(catalog.MustServiceName("s77")).Clone()
	changed.Endpoints[0].Weight = 2
	two, err := one.With([]*catalog.Service{changed}, nil)
	if err != nil {
		b.Fatal(err)
	}
	g, err := discovery.NewGuard(discovery.GuardOptions{})
	if err != nil {
		b.Fatal(err)
	}
	reads := []*catalog.Snapshot{one, two}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := g.Offer(time.Unix(int64(i), 0), reads[i%2]); err != nil {
			b.Fatal(err)
		}
	}
}
