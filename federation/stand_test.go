package federation_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what must happen; only broken code meets it.
const patience = 40 * time.Second

// wan knows where each cluster's federation can be reached by a gateway that has
// a link to the cluster, and which links are up.
type wan struct {
	mu       sync.Mutex
	at       map[string]string // mesh address by cluster
	cut      map[string]bool
	gateways map[string]int      // that run, by cluster
	live     map[net.Conn]string // tunnels by the cluster they go to
}

func newWAN() *wan {
	return &wan{at: map[string]string{}, cut: map[string]bool{}, gateways: map[string]int{}, live: map[net.Conn]string{}}
}

// linked reports whether gateways of both clusters have a link.
func (w *wan) linked(from, to string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.cut[from] && !w.cut[to] && w.gateways[to] > 0
}

func (w *wan) count(cluster string, by int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gateways[cluster] += by
}

// sever cuts every link to and from a cluster; heal puts them back.
func (w *wan) sever(cluster string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut[cluster] = true
	for c, to := range w.live {
		if to == cluster {
			_ = c.Close()
		}
	}
}

func (w *wan) heal(cluster string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.cut, cluster)
}

// dial is what a gateway of from does for a stream to the federation of to.
func (w *wan) dial(from, to string) (net.Conn, error) {
	w.mu.Lock()
	address := w.at[to]
	w.mu.Unlock()
	if address == "" || !w.linked(from, to) {
		return nil, errors.New("no link")
	}
	c, err := net.Dial("tcp", address)
	if err == nil {
		w.mu.Lock()
		w.live[c] = to
		w.mu.Unlock()
	}
	return c, err
}

// cluster is one whole federation with its identity, source and gateways.
type cluster struct {
	t       testing.TB
	wan     *wan
	name    string
	ca      *identitytest.CA
	id      spiffeid.ID
	dir     string
	config  federation.Config
	loaded  federation.Config // what the running one was started with
	source  *source
	clock   *clock
	own     *identity.Source
	metrics *prometheus.Registry

	fed  *federation.Federation
	stop func()
	api  *client.Client
}

// clock is the real one, set forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time           { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) forward(by time.Duration) { c.ahead.Add(int64(by)) }

// newCluster lays a cluster out in a trust domain of its own; peers are added by
// join, and it runs after start.
func newCluster(t testing.TB, w *wan, name string) *cluster {
	t.Helper()
	dir, err := os.MkdirTemp("", "fed") // short: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	c := &cluster{t: t, wan: w, name: name, ca: identitytest.NewCA(name + ".test"), dir: dir, source: newSource(), clock: &clock{}}
	c.id = c.ca.ID("/isthmus/cluster/" + name)
	c.config = federation.Config{
		Listen: "127.0.0.1:0", DataDir: filepath.Join(dir, "data"),
		API: federation.API{Socket: filepath.Join(dir, "api.sock")},
	}
	if err := os.WriteFile(c.bundleFile(), c.ca.BundleJSON(1), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *cluster) bundleFile() string { return filepath.Join(c.dir, "bundle.json") }

// knows adds peers to the configuration.
func (c *cluster) knows(others ...*cluster) *cluster {
	for _, o := range others {
		c.config.Peers = append(c.config.Peers, federation.Peer{
			Name: catalog.ClusterName(o.name), ID: o.id.String(), Gateways: []string{"127.0.0.1:7443"},
			Bundle: policy.PeerBundle{File: o.bundleFile()}, Cloud: "aws", Region: o.name,
			Asserts: []policy.IDPattern{policy.IDPattern("spiffe://" + o.name + ".test/shop/*")},
		})
	}
	return c
}

// join makes every cluster know every other.
func join(clusters ...*cluster) {
	for _, c := range clusters {
		for _, o := range clusters {
			if c != o {
				c.knows(o)
			}
		}
	}
}

// start runs the federation until halt, or the end of the test.
func (c *cluster) start() *cluster {
	c.t.Helper()
	if c.own == nil {
		c.own = c.ca.Source(c.id, c.ca.Bundle())
	}
	c.metrics = prometheus.NewRegistry()
	fed, err := federation.New(federation.Options{
		Config: c.config, Cluster: catalog.ClusterName(c.name), Locality: catalog.Locality{Cloud: "aws", Region: c.name},
		Identity: c.own, Registry: c.metrics, Build: "test", Now: c.clock.now,
		Sources: []federation.NamedSource{{
			Name: "registry", Kind: "test", Source: c.source, Ranges: discovery.NewRanges(netip.MustParsePrefix("127.0.0.0/8")),
			Guard: discovery.GuardOptions{Window: time.Minute},
		}},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- fed.Run(ctx) }()
	c.fed = fed
	c.stop = sync.OnceFunc(func() {
		cancel()
		if err := receive(c.t, done); err != nil {
			c.t.Errorf("%s: Run: %v", c.name, err)
		}
		c.api.Close()
	})
	c.t.Cleanup(func() { c.stop() })
	select {
	case <-fed.Ready():
	case err := <-done:
		c.t.Fatalf("%s: Run: %v", c.name, err)
	}
	c.wan.mu.Lock()
	c.wan.at[c.name] = fed.Addrs().Mesh.String()
	c.wan.mu.Unlock()
	c.loaded = c.config
	// The same port after a restart, as a configured one would be.
	c.config.Listen = fed.Addrs().Mesh.String()
	if c.api, err = client.New(client.Options{Socket: c.config.API.Socket}); err != nil {
		c.t.Fatal(err)
	}
	return c
}

func receive[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// source is a discovery.Source whose content the test sets.
type source struct {
	mu   sync.Mutex
	next []*catalog.Service
	set  bool
	wake chan struct{}
}

func newSource() *source { return &source{wake: make(chan struct{}, 1)} }

// publish makes services all that the source knows.
func (s *source) publish(services ...*catalog.Service) {
	s.mu.Lock()
	s.next, s.set = services, true
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run implements discovery.Source.
func (s *source) Run(ctx context.Context, publish discovery.Publish) error {
	for {
		s.mu.Lock()
		services, set := s.next, s.set
		s.mu.Unlock()
		if set {
			fresh := make([]*catalog.Service, len(services))
			for i, v := range services {
				fresh[i] = new(*v)
				fresh[i].Endpoints = slices.Clone(v.Endpoints)
			}
			snapshot, err := catalog.NewSnapshot("registry", fresh)
			if err != nil {
				return err
			}
			publish(snapshot)
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// service makes a service of n endpoints on ports 8000 and up.
func service(name string, n int) *catalog.Service {
	s := &catalog.Service{Name: catalog.MustServiceName(name), Ports: []catalog.Port{{Name: "http", Protocol: catalog.HTTP}}}
	for i := range n {
		s.Endpoints = append(s.Endpoints, catalog.Endpoint{
			ID: fmt.Sprintf("%s-%d", s.Name.Name(), i), Port: "http", Weight: 1, Health: catalog.Passing,
			Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(8000+i)),
		})
	}
	return s
}

// gateway stands for a gateway process: the real client of the mesh protocol,
// and a real control listener (TCP, mTLS, CONNECT) in front of the wan.
type gateway struct {
	cluster *cluster
	who     *identity.Source
	name    string
	address string
	control net.Listener
	tables  chan *route.Table

	mu        sync.Mutex
	table     *route.Table
	endpoints []route.EndpointReport
	callers   []route.Sighting // in the next report
	draining  bool
	connects  int
	// divert sends a CONNECT for one cluster to another: a hostile gateway.
	divert map[string]string
	// authority is the root that the peers' certificates are said to hang below.
	authority atomic.Pointer[string]

	halt func()
}

// gateway starts one; it reports ten times a second until halt.
func (c *cluster) gateway(name string) *gateway { return c.gatewayFrom(name, nil) }

// gatewayFrom starts one that has a table from its disk.
func (c *cluster) gatewayFrom(name string, have *route.Table) *gateway {
	c.t.Helper()
	return c.gatewayAs(name, c.ca.Source(spiffeid.RequireFromString(c.id.String()+"/gateway/"+name), c.ca.Bundle()), have)
}

// gatewayAs starts one with an identity of its own.
func (c *cluster) gatewayAs(name string, who *identity.Source, have *route.Table) *gateway {
	c.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	g := &gateway{cluster: c, who: who, name: name, control: l, address: l.Addr().String(), tables: make(chan *route.Table, 256), divert: map[string]string{}, table: have}
	link, err := client.NewGateway(client.GatewayOptions{Address: c.fed.Addrs().Mesh.String(), Identity: who, FederationID: c.id, Have: have})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = link.Run(ctx, g.take) })
	wg.Go(func() { g.report(ctx, link) })
	conns := &connSet{live: map[net.Conn]bool{}}
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				g.serveControl(conns, tls.Server(conn, who.ServerTLS([]string{"http/1.1"}, identity.AuthorizeIDs(c.id))))
			})
		}
	})
	c.wan.count(c.name, 1)
	g.halt = sync.OnceFunc(func() {
		c.wan.count(c.name, -1)
		cancel()
		_ = l.Close()
		conns.close()
		wg.Wait()
	})
	c.t.Cleanup(g.halt)
	return g
}

// connSet closes what a dead process would no longer hold.
type connSet struct {
	mu     sync.Mutex
	live   map[net.Conn]bool
	closed bool
}

func (s *connSet) add(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live[c] = true
	if s.closed {
		_ = c.Close()
	}
}

func (s *connSet) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.live {
		_ = c.Close()
	}
}

func (g *gateway) take(t *route.Table) {
	g.mu.Lock()
	g.table = t
	g.mu.Unlock()
	g.tables <- t
}

func (g *gateway) report(ctx context.Context, link *client.Gateway) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if r := g.makeReport(); link.Send(ctx, r) != nil {
			g.keep(r.Callers)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (g *gateway) makeReport() *route.Report {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	r := &route.Report{
		Gateway: catalog.Gateway{
			Name: g.name, ID: g.cluster.id.String() + "/gateway/" + g.name, Addresses: []string{"127.0.0.1:7443"}, Draining: g.draining,
		},
		Control: g.address, At: now, StartedAt: now, Build: "stand-in", Endpoints: slices.Clone(g.endpoints),
		Locality: catalog.Locality{Cloud: "aws", Region: g.cluster.name},
	}
	r.Callers, g.callers = g.callers, nil
	if g.table == nil {
		return r
	}
	r.Epoch, r.Version = g.table.Epoch, g.table.Version
	r.Authority, r.SVIDNotAfter = g.who.OwnAuthority(), g.who.NotAfter()
	below := ""
	if a := g.authority.Load(); a != nil {
		below = *a
	}
	for _, p := range g.table.Peers {
		state := "down"
		if g.cluster.wan.linked(g.cluster.name, string(p.Name)) {
			state = "up"
		}
		r.Links = append(r.Links, route.LinkReport{
			Cluster: p.Name, Gateway: "gw-1", Address: "127.0.0.1:7443", Dialed: true, State: state, Transport: "quic", RTT: 40 * time.Millisecond, PeerAuthority: below,
		})
	}
	return r
}

func (g *gateway) serveControl(conns *connSet, conn net.Conn) {
	conns.add(conn)
	defer func() { _ = conn.Close() }()
	r := bufio.NewReader(conn)
	req, err := http.ReadRequest(r)
	if err != nil || req.Method != http.MethodConnect {
		return
	}
	g.mu.Lock()
	g.connects++
	to := strings.TrimSuffix(strings.TrimPrefix(req.Host, "federation."), ":443")
	if d := g.divert[to]; d != "" {
		to = d
	}
	g.mu.Unlock()
	far, err := g.cluster.wan.dial(g.cluster.name, to)
	if err != nil {
		_, _ = io.WriteString(conn, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
		return
	}
	conns.add(far)
	defer func() { _ = far.Close() }()
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(far, r)
		_ = far.Close()
	})
	_, _ = io.Copy(conn, far)
	_ = conn.Close()
	wg.Wait()
}

// until reads tables until one passes, and returns it.
func (g *gateway) until(what string, pass func(*route.Table) bool) *route.Table {
	t := g.cluster.t
	t.Helper()
	g.mu.Lock()
	last := g.table
	g.mu.Unlock()
	if last != nil && pass(last) {
		return last
	}
	deadline := time.After(patience)
	for {
		select {
		case last = <-g.tables:
			if pass(last) {
				return last
			}
		case <-deadline:
			t.Fatalf("%s/%s: no table with %s; the last is %+v", g.cluster.name, g.name, what, last)
		}
	}
}

// remoteOf finds what a table says of a service in another cluster.
func remoteOf(t *route.Table, name, cluster string) *route.Remote {
	for _, s := range t.Services {
		if s.Name.String() != name {
			continue
		}
		for i := range s.Remote {
			if string(s.Remote[i].Cluster) == cluster {
				return &s.Remote[i]
			}
		}
	}
	return nil
}

func hasRemote(name, cluster string, ready uint32) func(*route.Table) bool {
	return func(t *route.Table) bool {
		r := remoteOf(t, name, cluster)
		var sum uint32
		if r != nil {
			for _, row := range r.Rows {
				sum += row.Ready
			}
		}
		return r != nil && sum == ready
	}
}

// eventually polls what has no channel.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// gauge reads one sample of the registry.
func (c *cluster) gauge(name string, labels map[string]string) (float64, bool) {
	c.t.Helper()
	families, err := c.metrics.Gather()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			got := map[string]string{}
			for _, l := range m.GetLabel() {
				got[l.GetName()] = l.GetValue()
			}
			if f.GetName() == name && maps.Equal(got, labels) {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue(), true
			}
		}
	}
	return 0, false
}

func shop() (exports []policy.Export, imports func(from ...string) []policy.Import) {
	exports = []policy.Export{{Name: "shop", Services: []policy.ServicePattern{"*.shop"}, To: []string{"*"}}}
	imports = func(from ...string) (out []policy.Import) {
		for _, f := range from {
			out = append(out, policy.Import{Name: "from-" + f, From: catalog.ClusterName(f), Services: []policy.ServicePattern{"*.shop"}})
		}
		return out
	}
	return exports, imports
}

// pair is east and west, running, with a gateway each; both offer *.shop and
// take it from the other. East has web.shop.
type pair struct {
	wan        *wan
	east, west *cluster
	ge, gw     *gateway
}

func newPair(t testing.TB) *pair {
	t.Helper()
	w := newWAN()
	p := &pair{wan: w, east: newCluster(t, w, "east"), west: newCluster(t, w, "west")}
	join(p.east, p.west)
	exports, imports := shop()
	p.east.config.Exports, p.west.config.Exports = exports, exports
	p.east.config.Imports, p.west.config.Imports = imports("west"), imports("east")
	p.east.source.publish(service("web.shop", 3), service("private.other", 1))
	p.west.source.publish(service("db.shop", 1))
	p.east.start()
	p.west.start()
	p.ge, p.gw = p.east.gateway("gw-1"), p.west.gateway("gw-1")
	return p
}

// synced waits until each side has what the other offers.
func (p *pair) synced() *pair {
	p.gw.until("web.shop in east", hasRemote("web.shop", "east", 3))
	p.ge.until("db.shop in west", hasRemote("db.shop", "west", 1))
	return p
}
