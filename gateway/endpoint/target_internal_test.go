package endpoint

import (
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// A pool is of one address, one transport, one identity, and one minute.
func TestWhatSharesAPool(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	a := target{address: netip.MustParseAddrPort("[2001:db8::1]:443"), transport: catalog.MTLS, server: "spiffe://a.test/web"}
	other, elsewhere, plain := a, a, a
	other.server = "spiffe://a.test/db"
	elsewhere.address = netip.MustParseAddrPort("[2001:db8::2]:443")
	plain.transport, plain.server = catalog.Plain, ""
	if plain.host(now) != "[2001:db8::1]:443" || plain.host(now) != plain.host(now.Add(time.Hour)) {
		t.Errorf("in plaintext: %s", plain.host(now))
	}
	if a.host(now) == other.host(now) || a.host(now) == elsewhere.host(now) || a.host(now) == plain.host(now) {
		t.Error("two targets share a pool")
	}
	changes := 0
	for at, host := now, a.host(now); at.Before(now.Add(10 * secureLife)); at = at.Add(time.Second) {
		if next := a.host(at); next != host {
			changes, host = changes+1, next
		}
	}
	if changes != 10 {
		t.Errorf("a pool was left %d times in ten lives", changes)
	}
}
