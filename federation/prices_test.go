package federation_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// The prices of a cluster's paths reach its gateways; another file takes their place at
// a reload, and one that is no good changes nothing and is told.
func TestPricesReachTheGateways(t *testing.T) {
	t.Parallel()
	p := newPair(t).synced()
	write := func(name, text string) string {
		path := filepath.Join(p.east.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	toward := func(out, in float64) func(*route.Table) bool {
		return func(t *route.Table) bool {
			return t.Tariff != nil && t.Tariff.Toward("west", false, time.Now()) == route.Price{Out: out, In: in, Known: true}
		}
	}
	const dated = "direction: egress, valid_from: 2026-01-01"
	next := p.east.loaded
	next.PriceBook = write("prices.yaml", "prices: [{cloud: aws, per_gb: 0.02, "+dated+"}]")
	if err := p.east.fed.Reload(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	p.ge.until("prices", toward(0.02, 0.02))
	next.PriceBook = write("other.yaml", "prices: [{cloud: aws, per_gb: 0.03, "+dated+"}, {cloud: aws, region: west, per_gb: 0.01, "+dated+"}]")
	if err := p.east.fed.Reload(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	p.ge.until("other prices", toward(0.03, 0.01))
	next.PriceBook = write("bad.yaml", "prices: [{cloud: aws, per_gb: -1, "+dated+"}]")
	if err := p.east.fed.Reload(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	s, err := p.east.api.Spend(t.Context(), catalog.ServiceName{})
	if err != nil {
		t.Fatal(err)
	}
	if b := s.Book; b == nil || b.Prices != 2 || !b.Kept || !strings.Contains(b.Problem, "bad.yaml:1") || !strings.Contains(b.Problem, "per_gb") {
		t.Errorf("%+v", s.Book)
	}
	v, err := p.east.api.Version(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(v.Degraded, "\n"), "price book") {
		t.Errorf("degraded: %v", v.Degraded)
	}
	// Without a book nothing has a price.
	if err := p.east.fed.Reload(t.Context(), p.east.loaded); err != nil {
		t.Fatal(err)
	}
	p.ge.until("no prices", func(t *route.Table) bool { return t.Tariff == nil })
}
