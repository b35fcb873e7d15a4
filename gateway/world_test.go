package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a set of clusters in one process, over real UDP on loopback: each with
// a gateway or more, a trust domain of its own, and a table that a test writes.
type world struct {
	t        *testing.T
	clusters []*cluster
	// asserts are what peers may assert; by default each cluster its own domain.
	asserts map[catalog.ClusterName][]policy.IDPattern
	version uint64
	// sim replaces the network; nil is loopback.
	sim *simNetwork
}

type cluster struct {
	world    *world
	name     catalog.ClusterName
	ca       *identitytest.CA
	locality catalog.Locality
	gateways []*node
	services []route.Service
	rules    []policy.Intention
	// traffic is how callers of this cluster reach a service.
	traffic map[string]*policy.Traffic
	// federation is Table.Federation.
	federation string
}

// node is one gateway process.
type node struct {
	*gateway.Gateway
	cluster  *cluster
	name     string
	config   gateway.Config
	conn     net.PacketConn
	address  netip.AddrPort
	tables   *tableFeed
	reports  *reportBook
	registry *prometheus.Registry
	log      *slog.Logger // nil: logger's
	cancel   context.CancelFunc
	done     chan error
}

func newWorld(t *testing.T, names ...catalog.ClusterName) *world {
	t.Helper()
	w := &world{t: t, asserts: make(map[catalog.ClusterName][]policy.IDPattern)}
	for i, name := range names {
		domain := string(name) + ".test"
		w.clusters = append(w.clusters, &cluster{
			world: w, name: name, ca: identitytest.NewCA(domain),
			locality: catalog.Locality{Cloud: "cloud" + fmt.Sprint(i), Region: "region" + fmt.Sprint(i)},
			rules: []policy.Intention{{
				Name: "everyone", Services: []policy.ServicePattern{"*"}, Action: policy.Allow,
				Callers: []policy.IDPattern{"spiffe://alpha.test/*", "spiffe://beta.test/*", "spiffe://gamma.test/*"},
			}},
		})
		w.asserts[name] = []policy.IDPattern{policy.IDPattern("spiffe://" + domain + "/*")}
	}
	return w
}

func (w *world) cluster(name catalog.ClusterName) *cluster {
	for _, c := range w.clusters {
		if c.name == name {
			return c
		}
	}
	w.t.Fatalf("no cluster %s", name)
	return nil
}

func (c *cluster) id() string {
	return "spiffe://" + string(c.name) + ".test/isthmus/cluster/" + string(c.name)
}

// caller is the SPIFFE ID that the listeners of a cluster give.
func (c *cluster) caller() string { return "spiffe://" + string(c.name) + ".test/workload" }

// host adds a service with endpoints of the own cluster, exported to all others.
func (c *cluster) host(service string, protocol catalog.Protocol, addresses ...net.Addr) *cluster {
	s := route.Service{Name: catalog.MustServiceName(service), Ports: []catalog.Port{{Name: "main", Protocol: protocol}}}
	for i, a := range addresses {
		s.Endpoints = append(s.Endpoints, catalog.Endpoint{
			ID: fmt.Sprintf("%s-%s-%d", c.name, s.Name.Name(), i+1), Port: "main",
			Address: plain(a), Weight: 1, Health: catalog.Passing,
		})
	}
	for _, o := range c.world.clusters {
		if o != c {
			s.ExportedTo = append(s.ExportedTo, o.name)
		}
	}
	c.services = append(c.services, s)
	return c
}

// plain is a TCP address with IPv4 written as such.
func plain(a net.Addr) netip.AddrPort {
	p := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

func (c *cluster) service(name string) *route.Service {
	for i := range c.services {
		if c.services[i].Name == catalog.MustServiceName(name) {
			return &c.services[i]
		}
	}
	c.world.t.Fatalf("no service %s in %s", name, c.name)
	return nil
}

// table is what the cluster's federation would say: everything that others export
// to it is imported.
func (w *world) table(c *cluster) *route.Table {
	w.version++
	t := &route.Table{
		Format: route.TableFormat, Epoch: 1, Version: w.version, Federation: c.federation,
		Cluster: route.Cluster{Name: c.name, Locality: c.locality, ID: c.id()}, Intentions: c.rules,
	}
	byName := make(map[catalog.ServiceName]*route.Service)
	for i := range c.services {
		s := c.services[i]
		s.Endpoints = slices.Clone(s.Endpoints)
		byName[s.Name] = &s
	}
	for _, o := range w.clusters {
		if o == c {
			continue
		}
		p := route.Peer{Name: o.name, Locality: o.locality, ID: o.id(), Asserts: w.asserts[o.name], Bundle: o.ca.BundleJSON(1), HeardAt: time.Now()}
		for _, n := range o.gateways {
			p.Gateways = append(p.Gateways, catalog.Gateway{Name: n.name, ID: o.id() + "/gateway/" + n.name, Addresses: []string{n.address.String()}})
		}
		t.Peers = append(t.Peers, p)
		for i := range o.services {
			offered := &o.services[i]
			if !slices.Contains(offered.ExportedTo, c.name) {
				continue
			}
			s := byName[offered.Name]
			if s == nil {
				s = &route.Service{Name: offered.Name, Ports: offered.Ports}
				byName[offered.Name] = s
			}
			r := route.Remote{Cluster: o.name, Name: offered.Name, Ports: offered.Ports}
			for _, port := range offered.Ports {
				counts := map[string]uint32{}
				for _, e := range offered.Endpoints {
					if e.Port == port.Name {
						counts[catalog.SubsetOf(e.Labels, offered.SubsetLabels)]++
					}
				}
				if len(counts) == 0 {
					counts[""] = 0
				}
				for _, subset := range slices.Sorted(maps.Keys(counts)) {
					n := counts[subset]
					r.Rows = append(r.Rows, catalog.SummaryRow{Port: port.Name, Subset: subset, Ready: n, Total: n})
				}
			}
			s.Remote = append(s.Remote, r)
		}
	}
	for name, traffic := range c.traffic {
		if s := byName[catalog.MustServiceName(name)]; s != nil {
			s.Traffic = traffic
		}
	}
	for _, s := range byName {
		t.Services = append(t.Services, *s)
	}
	slices.SortFunc(t.Services, func(a, b route.Service) int { return a.Name.Compare(b.Name) })
	return t
}

// gateway adds a gateway with an HTTP way in and a TCP way in for each of tcp. It
// runs once the world has started.
func (c *cluster) gateway(name string, tcp ...string) *node {
	t := c.world.t
	t.Helper()
	conn := c.world.listenUDP(netip.AddrPort{})
	n := &node{
		cluster: c, name: name, conn: conn, address: conn.LocalAddr().(*net.UDPAddr).AddrPort(),
		tables: newTableFeed(), reports: new(reportBook),
		config: gateway.Config{
			Name: name, DataDir: t.TempDir(), DrainTimeout: 20 * time.Second, AccessLog: "off",
			Advertise: []string{conn.LocalAddr().String()},
			FailBack:  gateway.FailBack{Hold: time.Second, Step: 0.5, Interval: 100 * time.Millisecond},
			Listen: gateway.Listen{
				HTTP: "127.0.0.1:0", HTTPCaller: c.caller(), Admin: "127.0.0.1:0", Control: "127.0.0.1:0",
			},
		},
	}
	if os.Getenv("VERBOSE") != "" {
		n.config.AccessLog = "all"
	}
	for _, s := range tcp {
		n.config.TCP = append(n.config.TCP, gateway.TCPListener{Address: "127.0.0.1:0", Service: s, Caller: c.caller()})
	}
	c.gateways = append(c.gateways, n)
	return n
}

// logger writes to the test's log where VERBOSE is set.
func logger(t *testing.T, name string) *slog.Logger {
	if os.Getenv("VERBOSE") == "" {
		return nil
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("gateway", name)
}

// boot starts the process without waiting.
func (n *node) boot() {
	t := n.cluster.world.t
	t.Helper()
	if n.conn == nil { // again, on the same address
		n.conn = n.cluster.world.listenUDP(n.address)
	}
	n.registry = prometheus.NewRegistry()
	id := n.cluster.ca.ID("/isthmus/cluster/" + string(n.cluster.name) + "/gateway/" + n.name)
	o := gateway.Options{
		Config: n.config, Cluster: n.cluster.name, Locality: n.cluster.locality, Identity: n.cluster.ca.Source(id),
		Tables: n.tables, Reports: n.reports, Log: logger(t, string(n.cluster.name)+"/"+n.name), Registry: n.registry, Build: "test", PacketConn: n.conn,
	}
	if sim := n.cluster.world.sim; sim != nil {
		o.Resolve = sim.resolve
		if sim.memory != nil {
			o.Listen, o.Dial = sim.memory.Listen, sim.memory.Dial
		}
	}
	if n.log != nil {
		o.Log = n.log
	}
	g, err := gateway.New(o)
	if err != nil {
		t.Fatal(err)
	}
	n.Gateway = g
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel, n.done = cancel, make(chan error, 1)
	go func() { n.done <- g.Run(ctx) }()
	t.Cleanup(n.stop)
}

// listenUDP opens a gateway's socket, on any address if none is given.
func (w *world) listenUDP(at netip.AddrPort) net.PacketConn {
	w.t.Helper()
	if w.sim != nil {
		return w.sim.listenUDP(at)
	}
	if !at.IsValid() {
		at = netip.MustParseAddrPort("127.0.0.1:0")
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		w.t.Fatal(err)
	}
	return conn
}

// stop ends the process in order and waits.
func (n *node) stop() {
	if n.done == nil {
		return
	}
	n.cancel()
	if err := <-n.done; err != nil {
		n.cluster.world.t.Errorf("gateway %s/%s: %v", n.cluster.name, n.name, err)
	}
	n.done, n.conn = nil, nil
}

// kill ends the process as kill -9 does, as far as peers can see: its socket goes
// first, so that nothing is said.
func (n *node) kill() {
	_ = n.conn.Close()
	n.cancel()
	<-n.done // may be an error: its socket is gone
	n.done, n.conn = nil, nil
}

// start runs all gateways and waits until they are ready and linked.
func (w *world) start() {
	w.t.Helper()
	for _, c := range w.clusters {
		for _, n := range c.gateways {
			n.boot()
		}
	}
	w.push()
	for _, c := range w.clusters {
		for _, n := range c.gateways {
			n.waitLinked()
		}
	}
}

// push gives every gateway the table of its cluster.
func (w *world) push() {
	w.t.Helper()
	for _, c := range w.clusters {
		t := w.table(c)
		if err := t.Validate(); err != nil {
			w.t.Fatalf("table of %s: %v", c.name, err)
		}
		for _, n := range c.gateways {
			n.tables.push(t)
		}
	}
}

func (n *node) waitReady() {
	t := n.cluster.world.t
	t.Helper()
	select {
	case <-n.Ready():
	case err := <-n.done:
		t.Fatalf("gateway %s/%s ended: %v", n.cluster.name, n.name, err)
	case <-time.After(30 * time.Second):
		t.Fatalf("gateway %s/%s is not ready", n.cluster.name, n.name)
	}
}

// waitLinked waits until the gateway is ready and has a link of its own, that is
// up, to every gateway of the other clusters.
func (n *node) waitLinked() {
	t := n.cluster.world.t
	t.Helper()
	n.waitReady()
	eventually(t, fmt.Sprintf("links of %s/%s", n.cluster.name, n.name), func() error {
		var links []route.LinkReport
		if _, body := n.admin("/debug/links"); json.Unmarshal(body, &links) != nil {
			return fmt.Errorf("malformed: %s", body)
		}
		for _, c := range n.cluster.world.clusters {
			if c == n.cluster {
				continue
			}
			for _, p := range c.gateways {
				if !slices.ContainsFunc(links, func(l route.LinkReport) bool {
					return l.Cluster == c.name && l.Gateway == p.name && l.State == "up" && l.Dialed
				}) {
					return fmt.Errorf("no link to %s/%s: %+v", c.name, p.name, links)
				}
			}
		}
		return nil
	})
	// The plan follows the links by at most its interval.
	time.Sleep(100 * time.Millisecond)
}

// admin asks the admin listener.
func (n *node) admin(path string) (int, []byte) {
	t := n.cluster.world.t
	t.Helper()
	dial := new(net.Dialer).DialContext
	if sim := n.cluster.world.sim; sim != nil && sim.memory != nil {
		dial = sim.memory.Dial
	}
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial}, Timeout: 20 * time.Second}
	resp, err := c.Get("http://" + n.Addrs().Admin.String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body
}

// eventually polls until check returns nil.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// tableFeed is a TableSource that a test writes.
type tableFeed struct{ tables chan *route.Table }

func newTableFeed() *tableFeed { return &tableFeed{tables: make(chan *route.Table, 16)} }

func (f *tableFeed) push(t *route.Table) { f.tables <- t }

func (f *tableFeed) Run(ctx context.Context, publish func(*route.Table)) error {
	for {
		select {
		case t := <-f.tables:
			publish(t)
		case <-ctx.Done():
			return nil
		}
	}
}

// reportBook is a ReportSink that keeps the last report.
type reportBook struct {
	mu     sync.Mutex
	report *route.Report
	// each, if set, is given every report.
	each func(*route.Report)
}

func (b *reportBook) Send(_ context.Context, r *route.Report) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.report = r
	if b.each != nil {
		b.each(r)
	}
	return nil
}

func (b *reportBook) last() *route.Report {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.report
}

// metric sums the samples of a metric whose labels contain all of the given
// "name=value" pairs.
func (n *node) metric(name string, labels ...string) float64 {
	families, err := n.registry.Gather()
	if err != nil {
		n.cluster.world.t.Error(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.Metric {
			match := true
			for _, want := range labels {
				key, value, _ := strings.Cut(want, "=")
				found := false
				for _, l := range m.Label {
					found = found || (l.GetName() == key && l.GetValue() == value)
				}
				match = match && found
			}
			if match {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// dumpMetrics logs what a node counted, for a test that fails.
func dumpMetrics(t *testing.T, n *node) {
	families, err := n.registry.Gather()
	if err != nil {
		t.Error(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			if v := m.GetCounter().GetValue() + m.GetGauge().GetValue(); v != 0 {
				t.Logf("%s %v %v", f.GetName(), m.Label, v)
			}
		}
	}
}
