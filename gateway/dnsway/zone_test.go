package dnsway_test

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/gateway/dnsway"
	"github.com/isthmus-mesh/isthmus/gateway/virtual"
)

var (
	httpPort  = catalog.Port{Name: "http", Protocol: catalog.HTTP}    //nolint:gochecknoglobals // a constant
	grpcPort  = catalog.Port{Name: "grpc", Protocol: catalog.GRPC}    //nolint:gochecknoglobals // a constant
	pgPort    = catalog.Port{Name: "postgres", Protocol: catalog.TCP} //nolint:gochecknoglobals // a constant
	mainPort  = catalog.Port{Name: "default", Protocol: catalog.TCP}  //nolint:gochecknoglobals // a constant
	queryPort = catalog.Port{Name: "queries", Protocol: catalog.UDP}  //nolint:gochecknoglobals // a constant
	statsPort = catalog.Port{Name: "stats", Protocol: catalog.HTTP}   //nolint:gochecknoglobals // a constant
)

func TestNames(t *testing.T) {
	w := start(t, mesh(7,
		imported("db.shop", pgPort),
		imported("plain.shop", mainPort),
		service("secret.vault", httpPort),
		service("udp.shop", queryPort),
		service("mute.shop", statsPort, catalog.Port{Name: "datagrams", Protocol: catalog.UDP}),
		service("web.shop", httpPort, statsPort),
	))
	for _, name := range []string{"web.shop.mesh.", "db.shop.mesh.", "web.shop.alpha.mesh.", "db.shop.beta.mesh.", "isthmus.mesh."} {
		if got := w.ask(name, dns.TypeA); !strings.HasPrefix(got, "NOERROR 127.") {
			t.Errorf("%s: %s", name, got)
		}
	}
	for _, c := range []struct {
		name string
		kind uint16
		want string
	}{
		// what exists, and has no record of that kind
		{"web.shop.mesh.", dns.TypeAAAA, "NOERROR"},
		{"web.shop.mesh.", dns.TypeTXT, "NOERROR"},
		{"web.shop.mesh.", dns.TypeHTTPS, "NOERROR"},
		{"web.shop.mesh.", dns.TypeSRV, "NOERROR"},
		{"_http._tcp.web.shop.mesh.", dns.TypeA, "NOERROR"},
		{"_tcp.web.shop.mesh.", dns.TypeSRV, "NOERROR"},
		{"shop.mesh.", dns.TypeA, "NOERROR"},
		{"alpha.mesh.", dns.TypeA, "NOERROR"},
		{"shop.alpha.mesh.", dns.TypeA, "NOERROR"},
		{"mesh.", dns.TypeA, "NOERROR"},
		{"mute.shop.mesh.", dns.TypeA, "NOERROR"}, // no port that has a number
		{"_stats._tcp.web.shop.mesh.", dns.TypeSRV, "NOERROR"},
		// what does not exist
		{"nobody.shop.mesh.", dns.TypeA, "NXDOMAIN"},
		{"web.nowhere.mesh.", dns.TypeA, "NXDOMAIN"},
		{"nowhere.mesh.", dns.TypeA, "NXDOMAIN"},
		{"web.shop.beta.mesh.", dns.TypeA, "NXDOMAIN"},
		{"db.shop.alpha.mesh.", dns.TypeA, "NXDOMAIN"},
		{"web.shop.gamma.mesh.", dns.TypeA, "NXDOMAIN"},
		{"shop.gamma.mesh.", dns.TypeA, "NXDOMAIN"},
		{"x.web.shop.alpha.mesh.", dns.TypeA, "NXDOMAIN"},
		{"_nope._tcp.web.shop.mesh.", dns.TypeSRV, "NXDOMAIN"},
		{"_http._udp.web.shop.mesh.", dns.TypeSRV, "NXDOMAIN"},
		{"_udp.web.shop.mesh.", dns.TypeSRV, "NXDOMAIN"},
		{"_http._tcp.nobody.shop.mesh.", dns.TypeSRV, "NXDOMAIN"},
		{"_http.web.shop.mesh.", dns.TypeSRV, "NXDOMAIN"},
		{"federation.alpha.mesh.", dns.TypeA, "NXDOMAIN"},
		{`web\.shop.mesh.`, dns.TypeA, "NXDOMAIN"},
		{`\000.shop.mesh.`, dns.TypeA, "NXDOMAIN"},
		// what this caller may not know
		{"secret.vault.mesh.", dns.TypeA, "NXDOMAIN"},
		{"secret.vault.alpha.mesh.", dns.TypeA, "NXDOMAIN"},
		{"vault.mesh.", dns.TypeA, "NXDOMAIN"},
		{"vault.alpha.mesh.", dns.TypeA, "NXDOMAIN"},
		{"_http._tcp.secret.vault.mesh.", dns.TypeSRV, "NXDOMAIN"},
		// records
		{"_http._tcp.web.shop.mesh.", dns.TypeSRV, "NOERROR 0 1 18080 web.shop.mesh."},
		{"_http._tcp.web.shop.alpha.mesh.", dns.TypeSRV, "NOERROR 0 1 18080 web.shop.alpha.mesh."},
		{"_postgres._tcp.db.shop.mesh.", dns.TypeSRV, "NOERROR 0 1 15432 db.shop.mesh."},
		{"_queries._udp.udp.shop.mesh.", dns.TypeSRV, "NOERROR 0 1 18000 udp.shop.mesh."},
		{"_default._tcp.plain.shop.mesh.", dns.TypeSRV, "NOERROR 0 1 18000 plain.shop.mesh."},
		{"web.shop.mesh.", dns.TypeANY, `NOERROR "RFC8482" ""`},
		{"mesh.", dns.TypeNS, "NOERROR isthmus.mesh."},
		{"mesh.", dns.TypeSOA, "NOERROR isthmus.mesh. hostmaster.mesh. 7 3600 600 86400 5"},
		// what is not ours
		{"mesh.example.org.", dns.TypeA, "REFUSED"},
		{"notmesh.", dns.TypeA, "REFUSED"},
		{".", dns.TypeNS, "REFUSED"},
		{"mesh.", dns.TypeAXFR, "REFUSED"},
	} {
		if got := w.ask(c.name, c.kind); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.name, dns.TypeToString[c.kind], got, c.want)
		}
	}
}

func TestAnAddressLeadsToItsService(t *testing.T) {
	w := start(t, mesh(1, imported("db.shop", pgPort), imported("other.shop", pgPort), service("web.shop", httpPort, statsPort)))
	for name, want := range map[string]struct {
		port uint16
		said string
	}{
		"web.shop.mesh.":       {18080, "web.shop:http"},
		"web.shop.alpha.mesh.": {18080, "web.shop.alpha:http"},
		"db.shop.mesh.":        {15432, "db.shop:postgres"},    // its own rule
		"other.shop.mesh.":     {18000, "other.shop:postgres"}, // the rule of the only port
	} {
		if said, err := connect(w.address(name), want.port); said != want.said || err != nil {
			t.Errorf("%s: %q, %v", name, said, err)
		}
	}
	a := w.address("web.shop.mesh.")
	if w.address("wEb.ShOp.MeSh.") != a || w.address("web.shop.alpha.mesh.") == a {
		t.Error("letters matter, or the cluster does not")
	}
	srv := w.exchange("udp", query("_http._tcp.web.shop.mesh.", dns.TypeSRV))
	if len(srv.Extra) != 1 || srv.Extra[0].(*dns.A).A.String() != a.String() {
		t.Errorf("the address does not come along: %v", srv.Extra)
	}
	// Gone, it is no longer listened on; back, it is where it was.
	w.set(mesh(2, imported("db.shop", pgPort)))
	eventually(t, "it is listened on still", func() bool {
		_, err := connect(a, 18080)
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	if got := w.ask("web.shop.mesh.", dns.TypeA); got != "NXDOMAIN" {
		t.Error(got)
	}
	w.set(mesh(3, imported("db.shop", pgPort), service("web.shop", httpPort)))
	eventually(t, "it does not come back", func() bool { // without anybody asking
		said, _ := connect(a, 18080)
		return said == "web.shop:http"
	})
	if w.address("web.shop.mesh.") != a {
		t.Error("it came back elsewhere")
	}
}

func TestReverse(t *testing.T) {
	w := start(t, mesh(1, imported("db.shop", pgPort), service("secret.vault", httpPort)))
	reverse := func(a netip.Addr) string {
		name, err := dns.ReverseAddr(a.String())
		if err != nil {
			t.Fatal(err)
		}
		return name
	}
	db := w.address("db.shop.mesh.")
	if got := w.ask(reverse(db), dns.TypePTR); got != "NOERROR db.shop.mesh." {
		t.Error(got)
	}
	if got := w.ask(reverse(db), dns.TypeA); got != "NOERROR" {
		t.Error(got)
	}
	if got := w.ask(reverse(w.address("db.shop.beta.mesh.")), dns.TypePTR); got != "NOERROR db.shop.beta.mesh." {
		t.Error(got)
	}
	nobody, hidden := netip.MustParseAddr("127.77.255.1"), virtual.Key{Service: catalog.MustServiceName("secret.vault")}
	if got := w.ask(reverse(nobody), dns.TypePTR); got != "NXDOMAIN" {
		t.Error(got)
	}
	r := w.exchange("udp", query(reverse(nobody), dns.TypePTR))
	if len(r.Ns) != 1 || r.Ns[0].Header().Name != "77.127.in-addr.arpa." {
		t.Errorf("the SOA is of %v", r.Ns)
	}
	secret, err := w.book.Assign(hidden)
	if err != nil {
		t.Fatal(err)
	}
	if got := w.ask(reverse(secret), dns.TypePTR); got != "NXDOMAIN" {
		t.Errorf("a service that the caller may not know: %s", got)
	}
	for _, name := range []string{"1.0.0.127.in-addr.arpa.", "77.127.in-addr.arpa.", "256.1.77.127.in-addr.arpa.", "1.2.3.77.127.in-addr.arpa.", "01.1.77.127.in-addr.arpa.", "x.ip6.arpa."} {
		if got := w.ask(name, dns.TypePTR); got != "REFUSED" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestAddressesOfIPv6(t *testing.T) {
	prefix := netip.MustParsePrefix("fd00:77::/64")
	book, err := virtual.Open(virtual.BookOptions{Range: prefix, Path: filepath.Join(t.TempDir(), "addresses")})
	if err != nil {
		t.Fatal(err)
	}
	w := start(t, mesh(1, imported("db.shop", pgPort)), func(o *dnsway.Options) {
		o.Book = book
		w := virtual.NewHub(virtual.HubOptions{Range: prefix}) // freebind: no route is needed to listen
		o.Hub = w
		t.Cleanup(func() { _ = w.Close() })
	})
	got, ok := strings.CutPrefix(w.ask("db.shop.mesh.", dns.TypeAAAA), "NOERROR ")
	a, err := netip.ParseAddr(got)
	if !ok || err != nil || !prefix.Contains(a) {
		t.Fatalf("%s, %v", got, err)
	}
	if got := w.ask("db.shop.mesh.", dns.TypeA); got != "NOERROR" {
		t.Error(got)
	}
	name, _ := dns.ReverseAddr(a.String())
	if got := w.ask(name, dns.TypePTR); got != "NOERROR db.shop.mesh." {
		t.Error(got)
	}
}

func TestWithoutATableNothingIsSaidNotToExist(t *testing.T) {
	w := start(t, nil)
	for _, name := range []string{"web.shop.mesh.", "1.1.77.127.in-addr.arpa."} {
		if got := w.ask(name, dns.TypeA); got != "SERVFAIL" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestAnExhaustedRangeIsTold(t *testing.T) {
	book, err := virtual.Open(virtual.BookOptions{Range: netip.MustParsePrefix("127.77.9.0/29"), Path: filepath.Join(t.TempDir(), "addresses")})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		if _, err := book.Assign(virtual.Key{Service: catalog.MustServiceName(fmt.Sprintf("s%d", i))}); err != nil {
			t.Fatal(err)
		}
	}
	w := start(t, mesh(1, imported("db.shop", pgPort)), func(o *dnsway.Options) { o.Book = book })
	q := query("db.shop.mesh.", dns.TypeA)
	q.SetEdns0(1232, false)
	r := w.exchange("udp", q)
	if r.Rcode != dns.RcodeServerFailure || !strings.Contains(r.IsEdns0().String(), "no address left") || w.count("isthmus_gateway_virtual_failures_total", "") != 1 {
		t.Errorf("%v", r)
	}
}
