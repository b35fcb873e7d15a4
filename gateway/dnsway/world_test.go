package dnsway_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/dnsway"
	"github.com/isthmus-mesh/isthmus/gateway/ports"
	"github.com/isthmus-mesh/isthmus/gateway/virtual"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const caller = "spiffe://alpha.test/web"

// service is one of the own cluster alpha, exported.
func service(name string, ports ...catalog.Port) route.Service {
	s := route.Service{Name: catalog.MustServiceName(name), Ports: ports, ExportedTo: []catalog.ClusterName{"beta"}}
	for i, p := range ports {
		s.Endpoints = append(s.Endpoints, catalog.Endpoint{
			ID: p.Name, Port: p.Name, Weight: 1, Health: catalog.Passing, Address: netip.AddrPortFrom(netip.MustParseAddr("10.1.1.1"), uint16(9000+i)),
		})
	}
	return s
}

// imported is a service of the cluster beta.
func imported(name string, ports ...catalog.Port) route.Service {
	n := catalog.MustServiceName(name)
	r := route.Remote{Cluster: "beta", Name: n, Ports: ports}
	for _, p := range ports {
		r.Rows = append(r.Rows, catalog.SummaryRow{Port: p.Name, Ready: 1, Total: 1})
	}
	return route.Service{Name: n, Ports: ports, Remote: []route.Remote{r}}
}

// mesh is a table with services of both kinds: everybody may call them, but nobody
// secret.vault.
func mesh(version uint64, services ...route.Service) *route.Table {
	slices.SortFunc(services, func(a, b route.Service) int { return a.Name.Compare(b.Name) })
	return &route.Table{
		Format: route.TableFormat, Epoch: 1, Version: version,
		Cluster:  route.Cluster{Name: "alpha", ID: "spiffe://alpha.test/isthmus/cluster/alpha"},
		Peers:    []route.Peer{{Name: "beta", ID: "spiffe://beta.test/isthmus/cluster/beta"}},
		Services: services,
		Intentions: policy.Intentions{
			{Name: "vault", Services: []policy.ServicePattern{"*.vault"}, Callers: []policy.IDPattern{"spiffe://alpha.test/*"}, Action: policy.Deny},
			{Name: "all", Services: []policy.ServicePattern{"*"}, Callers: []policy.IDPattern{"spiffe://alpha.test/*"}, Action: policy.Allow},
		},
	}
}

// world is a DNS way on real sockets.
type world struct {
	*dnsway.Way
	t        testing.TB
	at       string
	book     *virtual.Book
	hub      *virtual.Hub
	plan     atomic.Pointer[route.Plan]
	registry *prometheus.Registry
}

type setting func(*dnsway.Options)

func start(t testing.TB, table *route.Table, settings ...setting) *world {
	t.Helper()
	w := &world{t: t, registry: prometheus.NewRegistry()}
	if table != nil {
		w.set(table)
	}
	prefix := netip.MustParsePrefix("127.77.0.0/16")
	book, err := virtual.Open(virtual.BookOptions{Range: prefix, Path: filepath.Join(t.TempDir(), "addresses")})
	if err != nil {
		t.Fatal(err)
	}
	w.hub = virtual.NewHub(virtual.HubOptions{Range: prefix})
	udp, tcp := sockets(t)
	o := dnsway.Options{
		PacketConn: udp, Listener: tcp, Plan: w.plan.Load, Caller: caller, Book: book, Hub: w.hub, Registerer: w.registry,
		Log: slog.New(slog.DiscardHandler), Rate: 100_000,
		Rules: []ports.Rule{
			{Number: 18080, Port: "http"}, {Number: 15432, Port: "postgres", Services: []policy.ServicePattern{"db.shop"}}, {Number: 18000},
		},
	}
	for _, s := range settings {
		s(&o)
	}
	w.at, w.book = udp.LocalAddr().String(), o.Book
	if w.Way, err = dnsway.New(o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := w.hub.Accept()
			if err != nil {
				return
			}
			target, _ := w.hub.Find(c.LocalAddr())
			_, _ = io.WriteString(c, target.String()+":"+target.Port)
			_ = c.Close()
		}
	})
	wg.Go(func() {
		if err := w.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); _ = w.hub.Close(); wg.Wait() })
	return w
}

// sockets are UDP and TCP on one port.
func sockets(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		u, err := net.ListenPacket("udp", l.Addr().String())
		if err == nil {
			t.Cleanup(func() { _, _ = l.Close(), u.Close() })
			return u, l
		}
		_ = l.Close()
	}
	t.Fatal("no port is free for both")
	return nil, nil
}

func (w *world) set(table *route.Table) {
	w.t.Helper()
	if err := table.Validate(); err != nil {
		w.t.Fatal(err)
	}
	w.plan.Store(route.Compile(table, &route.Evidence{Now: time.Now()}, route.NewLive()))
	if w.Way != nil {
		w.Changed()
	}
}

// exchange asks over the network and checks what every answer must be.
func (w *world) exchange(network string, q *dns.Msg) *dns.Msg {
	w.t.Helper()
	c := dns.Client{Net: network, Timeout: 20 * time.Second}
	r, _, err := c.Exchange(q, w.at)
	if err != nil {
		w.t.Fatalf("%s: %v", q.Question[0].Name, err)
	}
	if len(r.Question) != 1 || r.Question[0] != q.Question[0] {
		w.t.Errorf("asked %v, answered %v", q.Question, r.Question)
	}
	return r
}

func query(name string, kind uint16) *dns.Msg {
	q := new(dns.Msg)
	q.SetQuestion(name, kind)
	return q
}

// ask returns an answer as text: its code, and the data of its records.
func (w *world) ask(name string, kind uint16) string {
	w.t.Helper()
	r := w.exchange("udp", query(name, kind))
	out := []string{dns.RcodeToString[r.Rcode]}
	for _, rr := range r.Answer {
		if rr.Header().Name != name {
			w.t.Errorf("asked for %s, got a record of %s", name, rr.Header().Name)
		}
		out = append(out, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	if len(r.Answer) == 0 && r.Authoritative { // RFC 2308
		if len(r.Ns) != 1 || r.Ns[0].Header().Rrtype != dns.TypeSOA {
			w.t.Errorf("%s: nothing, and no SOA: %v", name, r.Ns)
		}
	}
	return strings.Join(out, " ")
}

// address is the virtual address of a name.
func (w *world) address(name string) netip.Addr {
	w.t.Helper()
	a, err := netip.ParseAddr(strings.TrimPrefix(w.ask(name, dns.TypeA), "NOERROR "))
	if err != nil {
		w.t.Fatalf("%s: %v", name, err)
	}
	return a
}

// connect is what a listener at an address says.
func connect(a netip.Addr, port uint16) (string, error) {
	c, err := net.DialTimeout("tcp", netip.AddrPortFrom(a, port).String(), 10*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	all, err := io.ReadAll(c)
	return string(all), err
}

// count sums a counter over the series with a label value.
func (w *world) count(name, value string) (n float64) {
	families, err := w.registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.Metric {
			match := value == ""
			for _, l := range m.Label {
				match = match || l.GetValue() == value
			}
			if match {
				n += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return n
}

func eventually(t testing.TB, what string, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !check(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}
