package refusals_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// leastCases is how many negative cases this package promises.
const leastCases = 150

// tally counts the negative cases that ran, by area.
var tally struct {
	mu    sync.Mutex
	areas map[string]int
}

// refuse runs one named negative case.
func refuse(t *testing.T, area, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		tally.mu.Lock()
		if tally.areas == nil {
			tally.areas = make(map[string]int)
		}
		tally.areas[area]++
		tally.mu.Unlock()
		f(t)
	})
}

func TestMain(m *testing.M) {
	m.Run() // its verdict is that of the process
	total := 0
	for _, area := range slices.Sorted(maps.Keys(tally.areas)) {
		fmt.Printf("figure: negative cases: %s: %d\n", area, tally.areas[area])
		total += tally.areas[area]
	}
	fmt.Printf("figure: negative cases: %d in all\n", total)
	if whole := flag.Lookup("test.run").Value.String() == "" && !testing.Short(); whole && total < leastCases {
		panic(fmt.Sprintf("only %d negative cases ran, at least %d are promised", total, leastCases))
	}
}

// pair is alpha, whose gateway callers use, and beta, which hosts; both are real
// gateways on loopback. gamma is a name in beta's table. Nothing that a negative case
// asks for may reach beta's services.
type pair struct {
	t           *testing.T
	cas         map[catalog.ClusterName]*identitytest.CA
	alpha, beta *gateway.Gateway
	tables      map[catalog.ClusterName]chan *route.Table
	link        map[catalog.ClusterName]netip.AddrPort
	reached     atomic.Pointer[string]
	version     uint64
	services    []route.Service // beta's
	intentions  []policy.Intention
	asserts     []policy.IDPattern // what alpha may assert
}

const alphaCaller = "spiffe://alpha.test/workload"

func clusterID(c catalog.ClusterName) string {
	return "spiffe://" + string(c) + ".test/isthmus/cluster/" + string(c)
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{
		t: t, cas: make(map[catalog.ClusterName]*identitytest.CA), tables: make(map[catalog.ClusterName]chan *route.Table),
		link: make(map[catalog.ClusterName]netip.AddrPort), asserts: []policy.IDPattern{"spiffe://alpha.test/*"},
	}
	for _, c := range []catalog.ClusterName{"alpha", "beta", "gamma"} {
		p.cas[c] = identitytest.NewCA(string(c) + ".test")
	}
	web := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { p.reached.Store(new(r.Method + " " + r.RequestURI)) }))
	t.Cleanup(web.Close)
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	go func() {
		for {
			c, err := raw.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				// A connection that says nothing is the gateway's own health check.
				first := make([]byte, 1)
				if n, _ := c.Read(first); n == 1 {
					p.reached.Store(new("a connection"))
					_, _ = c.Write(first)
					_, _ = io.Copy(c, c)
				}
			}()
		}
	}()
	host := func(name string, protocol catalog.Protocol, at net.Addr, to ...catalog.ClusterName) route.Service {
		return route.Service{
			Name: catalog.MustServiceName(name), Ports: []catalog.Port{{Name: "main", Protocol: protocol}}, ExportedTo: to,
			Endpoints: []catalog.Endpoint{{ID: name + "-1", Port: "main", Address: at.(*net.TCPAddr).AddrPort(), Weight: 1, Health: catalog.Passing}},
		}
	}
	w, r := web.Listener.Addr(), raw.Addr()
	p.services = []route.Service{
		host("guarded", catalog.HTTP, w, "alpha"), host("open", catalog.HTTP, w, "alpha"), host("paths", catalog.HTTP, w, "alpha"),
		host("private", catalog.HTTP, w), host("tcp", catalog.TCP, r, "alpha"), host("tenant", catalog.HTTP, w, "gamma"),
	}
	callers := []policy.IDPattern{alphaCaller, "spiffe://gamma.test/*", "spiffe://beta.test/*"}
	p.intentions = []policy.Intention{
		{Name: "open", Services: []policy.ServicePattern{"open.default", "private.default", "tcp.default", "tenant.default"}, Callers: callers, Action: policy.Allow},
		{Name: "paths", Services: []policy.ServicePattern{"paths.default"}, Callers: callers, Action: policy.Allow, HTTP: []policy.HTTPCondition{
			{Methods: []string{"GET"}, PathPrefix: "/public/"}, {Path: "/team", Headers: []policy.HeaderCondition{{Name: "x-team", Exact: "blue"}}},
		}},
		{Name: "secret", Services: []policy.ServicePattern{"paths.default"}, Callers: callers, Action: policy.Deny, HTTP: []policy.HTTPCondition{
			{PathPrefix: "/public/secret/"}, {Headers: []policy.HeaderCondition{{Name: "x-debug", Present: true}}},
		}},
	}
	p.beta = p.start("beta")
	p.alpha = p.start("alpha")
	p.push()
	stand.Eventually(t, within, "alpha reaches beta", func() error {
		if status, reason := p.ask("GET / HTTP/1.1\r\nHost: open.default\r\n\r\n"); status != http.StatusOK {
			return fmt.Errorf("%d %s", status, reason)
		}
		return nil
	})
	return p
}

// start runs a cluster's gateway.
func (p *pair) start(name catalog.ClusterName) *gateway.Gateway {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		p.t.Fatal(err)
	}
	p.link[name] = conn.LocalAddr().(*net.UDPAddr).AddrPort()
	p.tables[name] = make(chan *route.Table, 8)
	caller := "spiffe://" + string(name) + ".test/workload"
	config := gateway.Config{
		Name: "gw1", DataDir: p.t.TempDir(), DrainTimeout: time.Second, AccessLog: "off", Advertise: []string{conn.LocalAddr().String()},
		Listen: gateway.Listen{HTTP: "127.0.0.1:0", HTTPCaller: caller, Admin: "127.0.0.1:0", Control: "127.0.0.1:0"},
	}
	for _, s := range []string{"open", "paths", "tcp"} {
		config.TCP = append(config.TCP, gateway.TCPListener{Address: "127.0.0.1:0", Service: s, Caller: caller})
	}
	g, err := gateway.New(gateway.Options{
		Config: config, Cluster: name, Identity: p.cas[name].Source(spiffeid.RequireFromString(clusterID(name) + "/gateway/gw1")),
		Tables: feed(p.tables[name]), PacketConn: conn, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	p.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			p.t.Error(err)
		}
	})
	return g
}

type feed chan *route.Table

func (f feed) Run(ctx context.Context, publish func(*route.Table)) error {
	for {
		select {
		case t := <-f:
			publish(t)
		case <-ctx.Done():
			return nil
		}
	}
}

// push gives both gateways their tables.
func (p *pair) push() {
	p.version++
	peer := func(c catalog.ClusterName, asserts ...policy.IDPattern) route.Peer {
		q := route.Peer{Name: c, ID: clusterID(c), Asserts: asserts, Bundle: p.cas[c].BundleJSON(1)}
		if at := p.link[c]; at.IsValid() {
			q.Gateways = append(q.Gateways, catalog.Gateway{Addresses: []string{at.String()}})
		}
		return q
	}
	alpha := &route.Table{
		Format: route.TableFormat, Epoch: 1, Version: p.version, Cluster: route.Cluster{Name: "alpha", ID: clusterID("alpha")},
		Peers: []route.Peer{peer("beta", "spiffe://beta.test/*")},
	}
	for _, s := range p.services {
		if slices.Contains(s.ExportedTo, "alpha") {
			alpha.Services = append(alpha.Services, route.Service{Name: s.Name, Ports: s.Ports, Remote: []route.Remote{{
				Cluster: "beta", Name: s.Name, Ports: s.Ports, Rows: []catalog.SummaryRow{{Port: "main", Ready: 1, Total: 1}},
			}}})
		}
	}
	imported := route.Service{Name: catalog.MustServiceName("imported"), Ports: []catalog.Port{{Name: "main", Protocol: catalog.HTTP}}, Remote: []route.Remote{{
		Cluster: "alpha", Name: catalog.MustServiceName("imported"), Ports: []catalog.Port{{Name: "main", Protocol: catalog.HTTP}}, Rows: []catalog.SummaryRow{{Port: "main", Ready: 1, Total: 1}},
	}}}
	beta := &route.Table{
		Format: route.TableFormat, Epoch: 1, Version: p.version, Cluster: route.Cluster{Name: "beta", ID: clusterID("beta")},
		Peers: []route.Peer{peer("alpha", p.asserts...), peer("gamma", "spiffe://gamma.test/*")}, Intentions: p.intentions,
		Services: append(slices.Clone(p.services), imported),
	}
	slices.SortFunc(beta.Services, func(a, b route.Service) int { return a.Name.Compare(b.Name) })
	for c, t := range map[catalog.ClusterName]*route.Table{"alpha": alpha, "beta": beta} {
		if err := t.Validate(); err != nil {
			p.t.Fatal(err)
		}
		p.tables[c] <- t
	}
}

// hostile is a gateway of a cluster that holds the right identity and says what it
// likes.
func (p *pair) hostile(cluster catalog.ClusterName, name string) *tunnel.Node {
	p.t.Helper()
	pc, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		p.t.Fatal(err)
	}
	ca := p.cas[cluster]
	node, err := tunnel.New(tunnel.Options{
		PacketConn: pc, Cluster: string(cluster), Gateway: name, Handler: deaf{},
		Identity: ca.Source(spiffeid.RequireFromString(clusterID(cluster)+"/gateway/"+name), p.cas["beta"].Bundle()),
	})
	if err != nil {
		p.t.Fatal(err)
	}
	if err := node.SetPeers([]tunnel.Peer{{
		Cluster: "beta", ID: spiffeid.RequireFromString(clusterID("beta")),
		Gateways: []tunnel.PeerGateway{{Addresses: []string{p.link["beta"].String()}}},
	}}); err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = node.Run(ctx) })
	p.t.Cleanup(func() { cancel(); wg.Wait(); _ = pc.Close() })
	stand.Eventually(p.t, within, "the hostile gateway is linked", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		s, err := node.OpenStream(ctx, "beta", &wire.Header{Service: "nobody.default", Caller: alphaCaller}, nil)
		if err != nil {
			return err
		}
		defer func() { _ = s.Close() }()
		_, err = s.Status(ctx)
		return err
	})
	return node
}

// untouched fails if a service was reached since the last call.
func (p *pair) untouched(t *testing.T) {
	t.Helper()
	if r := p.reached.Swap(nil); r != nil {
		t.Errorf("%s reached a service", *r)
	}
}
