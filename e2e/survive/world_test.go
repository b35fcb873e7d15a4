package survive

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// full reports whether the promised number of trials is asked for.
func full() bool { return os.Getenv("ISTHMUS_SURVIVE") == "full" }

// They make the promised numbers in slices, on a machine that has no hour at once.
var (
	firstSeed = flag.Uint64("first", 0, "the first seed, of trials of faults and of hours")
	hours     = flag.Uint64("hours", 0, "TestNoFalseFailover: so many seeds of an hour each")
)

// The clusters: callers are in near, and prefer first over second.
const (
	near   catalog.ClusterName = "near"
	first  catalog.ClusterName = "first"
	second catalog.ClusterName = "second"
)

// world is three clusters of one gateway each, in a synctest bubble.
type world struct {
	t       *testing.T
	seed    uint64
	random  *rand.Rand
	network *tunneltest.Network
	tcp     *tunneltest.TCP
	sites   map[catalog.ClusterName]*site
	events  *events
	version uint64
	traffic policy.Traffic
	// limits are what the regions' own gateways let through; nil is everything.
	limits *policy.Limits
	// failBack is the gateways' pace of fail-backs; the zero value is the product's.
	failBack gateway.FailBack
	cleanup  []func()
	// problems are what went wrong: a bubble that fails would end the trials of all.
	problems []string
}

// site is one cluster: its gateway, and the services beside it.
type site struct {
	world *world
	name  catalog.ClusterName
	ca    *identitytest.CA
	host  netip.AddrPort
	web   net.Listener // nil where nothing is served
	line  net.Listener
	// hearsay: it serves nothing, says that it does, and knows who does.
	hearsay bool
	tables  tableFeed
	gateway *gateway.Gateway
	metrics *prometheus.Registry
	conn    net.PacketConn
	cancel  context.CancelFunc
	done    chan error
}

// newWorld lays out the clusters without starting them.
func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, seed: seed, random: rand.New(rand.NewPCG(seed, 1)),
		network: tunneltest.NewNetwork(tunneltest.Path{Delay: 10 * time.Millisecond}, seed),
		tcp:     tunneltest.NewTCP(0), events: new(events), sites: make(map[catalog.ClusterName]*site),
		failBack: failBack,
		traffic:  policy.Traffic{Name: "first", Services: []policy.ServicePattern{"*"}, Clusters: []catalog.ClusterName{first, second}},
	}
	for i, name := range []catalog.ClusterName{near, first, second} {
		w.sites[name] = &site{
			world: w, name: name, ca: identitytest.NewCA(string(name) + ".test"),
			host: tunneltest.HostPort(i + 1), tables: make(tableFeed, 16),
		}
	}
	return w
}

// start runs the gateways and waits until near is answered by first.
func (w *world) start() {
	for _, s := range w.sites {
		s.boot()
	}
	w.push()
	time.Sleep(2 * time.Second)
}

// stop ends everything, so that the bubble can end.
func (w *world) stop() {
	for _, s := range w.sites {
		s.stop()
	}
	for _, f := range slices.Backward(w.cleanup) {
		f()
	}
	w.network.Close()
}

func (w *world) failf(format string, args ...any) {
	w.problems = append(w.problems, fmt.Sprintf("seed %d: "+format, append([]any{w.seed}, args...)...))
}

// inWorld runs f in a bubble, with clusters of that seed, and tells t what went
// wrong. configure may change the world before its gateways start.
func inWorld(t *testing.T, seed uint64, configure, f func(w *world)) {
	t.Helper()
	var problems []string
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed)
		configure(w)
		w.start()
		defer w.stop()
		f(w)
		problems = w.problems
	})
	for _, p := range problems {
		t.Error(p)
	}
}

// bothServe gives the two regions their services.
func bothServe(w *world) {
	w.sites[first].serve(nil)
	w.sites[second].serve(nil)
}

// between sets the path between two clusters, both ways.
func (w *world) between(a, b catalog.ClusterName, p tunneltest.Path) {
	w.oneWay(a, b, p)
	w.oneWay(b, a, p)
}

func (w *world) oneWay(from, to catalog.ClusterName, p tunneltest.Path) {
	w.network.SetPath(w.sites[from].host.Addr(), w.sites[to].host.Addr(), p)
}

func (w *world) path(from, to catalog.ClusterName) tunneltest.Path {
	return w.network.Path(w.sites[from].host.Addr(), w.sites[to].host.Addr())
}

func (s *site) id() string {
	return fmt.Sprintf("spiffe://%s.test/isthmus/cluster/%s", s.name, s.name)
}

// push gives every gateway the table of its cluster.
func (w *world) push() {
	w.t.Helper()
	w.version++
	for _, s := range w.sites {
		t := w.table(s)
		if err := t.Validate(); err != nil {
			w.t.Fatalf("table of %s: %v", s.name, err)
		}
		s.tables <- t
	}
}

func (w *world) table(s *site) *route.Table {
	t := &route.Table{
		Format: route.TableFormat, Epoch: 1, Version: w.version,
		Cluster: route.Cluster{Name: s.name, Locality: s.locality(), ID: s.id()},
		Intentions: []policy.Intention{{
			Name: "everyone", Services: []policy.ServicePattern{"*"}, Action: policy.Allow,
			Callers: []policy.IDPattern{"spiffe://near.test/*"},
		}},
	}
	line := route.Service{Name: catalog.MustServiceName("line"), Ports: []catalog.Port{{Name: "main", Protocol: catalog.TCP}}}
	web := route.Service{Name: catalog.MustServiceName("web"), Ports: []catalog.Port{{Name: "main", Protocol: catalog.HTTP}}}
	traffic := w.traffic
	for _, name := range []catalog.ClusterName{first, near, second} {
		o := w.sites[name]
		if o == s {
			continue
		}
		p := route.Peer{
			Name: o.name, Locality: o.locality(), ID: o.id(), Bundle: o.ca.BundleJSON(1), HeardAt: time.Now(),
			Asserts:  []policy.IDPattern{policy.IDPattern("spiffe://" + string(o.name) + ".test/*")},
			Gateways: []catalog.Gateway{{Name: "gw1", ID: o.id() + "/gateway/gw1", Addresses: []string{o.host.String()}}},
		}
		t.Peers = append(t.Peers, p)
		if (o.web != nil || o.hearsay) && (s.name == near || s.hearsay) {
			rows := []catalog.SummaryRow{{Port: "main", Ready: 1, Total: 1}}
			web.Remote = append(web.Remote, route.Remote{Cluster: o.name, Name: web.Name, Ports: web.Ports, Rows: rows})
			line.Remote = append(line.Remote, route.Remote{Cluster: o.name, Name: line.Name, Ports: line.Ports, Rows: rows})
			web.Traffic, line.Traffic = &traffic, &traffic
		}
	}
	if s.name != near {
		web.ExportedTo, line.ExportedTo = []catalog.ClusterName{near, first, second}, []catalog.ClusterName{near, first, second}
		web.ExportedTo = slices.DeleteFunc(web.ExportedTo, func(c catalog.ClusterName) bool { return c == s.name })
		line.ExportedTo = slices.DeleteFunc(line.ExportedTo, func(c catalog.ClusterName) bool { return c == s.name })
	}
	if s.web != nil {
		if w.limits != nil {
			web.Traffic = &policy.Traffic{Name: "limits", Services: []policy.ServicePattern{"*"}, Limits: w.limits}
		}
		web.Endpoints = []catalog.Endpoint{s.endpoint("web", s.web)}
		line.Endpoints = []catalog.Endpoint{s.endpoint("line", s.line)}
	}
	t.Services = []route.Service{line, web}
	return t
}

func (s *site) locality() catalog.Locality {
	return catalog.Locality{Cloud: "cloud", Region: string(s.name)}
}

func (s *site) endpoint(service string, l net.Listener) catalog.Endpoint {
	return catalog.Endpoint{
		ID: string(s.name) + "-" + service, Port: "main", Address: l.Addr().(*net.TCPAddr).AddrPort(), Weight: 1, Health: catalog.Passing,
	}
}

// failBack is fast, so that a trial soon has first in service again; how slow it
// is by default matters after a trial only.
var failBack = gateway.FailBack{Hold: 500 * time.Millisecond, Step: 1, Interval: 100 * time.Millisecond}

// boot starts the gateway's process (again), on the same address.
func (s *site) boot() {
	w := s.world
	s.conn = w.network.Listen(s.host)
	s.metrics = prometheus.NewRegistry()
	o := gateway.Options{
		Config: gateway.Config{
			Name: "gw1", DataDir: w.t.TempDir(), DrainTimeout: 5 * time.Second, AccessLog: "off",
			Advertise: []string{s.host.String()}, FailBack: w.failBack,
			Listen: gateway.Listen{
				HTTP: "127.0.0.1:0", HTTPCaller: "spiffe://" + string(s.name) + ".test/workload",
				Admin: "127.0.0.1:0", Control: "127.0.0.1:0",
			},
		},
		Cluster: s.name, Locality: s.locality(), Identity: s.ca.Source(s.ca.ID("/isthmus/cluster/" + string(s.name) + "/gateway/gw1")),
		Tables: s.tables, Log: slog.New(w.events.of(s.name)), Registry: s.metrics, Build: "test", PacketConn: s.conn,
		Listen: w.tcp.Listen, Dial: w.tcp.Dial,
		Resolve: func(_ context.Context, hostport string) (net.Addr, error) {
			a, err := netip.ParseAddrPort(hostport)
			return net.UDPAddrFromAddrPort(a), err
		},
	}
	if s.name == near {
		o.Config.TCP = []gateway.TCPListener{{Address: "127.0.0.1:0", Service: "line", Caller: o.Config.Listen.HTTPCaller}}
	}
	g, err := gateway.New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.gateway, s.cancel, s.done = g, cancel, make(chan error, 1)
	go func() { s.done <- g.Run(ctx) }()
}

// stop ends the process in order.
func (s *site) stop() {
	if s.done == nil {
		return
	}
	s.cancel()
	if err := <-s.done; err != nil {
		s.world.failf("gateway of %s: %v", s.name, err)
	}
	s.done = nil
}

// kill ends the process as kill -9 does.
func (s *site) kill() {
	_ = s.conn.Close()
	s.cancel()
	<-s.done // may be an error: its socket is gone
	s.done = nil
}

// counter sums the series of a counter of a gateway.
func (w *world) counter(of catalog.ClusterName, name string) float64 {
	families, err := w.sites[of].metrics.Gather()
	if err != nil {
		w.failf("metrics of %s: %v", of, err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.Metric {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// tableFeed is a gateway.TableSource that a test writes.
type tableFeed chan *route.Table

// Run implements gateway.TableSource.
func (f tableFeed) Run(ctx context.Context, publish func(*route.Table)) error {
	for {
		select {
		case t := <-f:
			publish(t)
		case <-ctx.Done():
			return nil
		}
	}
}

// event is one message of a gateway's log.
type event struct {
	at      time.Time
	of      catalog.ClusterName
	message string
	cluster catalog.ClusterName
	text    string
}

// events keep what gateways log of links and clusters. It is a slog.Handler.
type events struct {
	mu  sync.Mutex
	all []event
}

func (e *events) of(name catalog.ClusterName) slog.Handler { return &logOf{events: e, name: name} }

// since returns the events from a time on that match.
func (e *events) since(at time.Time, of catalog.ClusterName, message string, about catalog.ClusterName) []event {
	e.mu.Lock()
	defer e.mu.Unlock()
	var found []event
	for _, v := range e.all {
		if !v.at.Before(at) && v.of == of && v.message == message && v.cluster == about {
			found = append(found, v)
		}
	}
	return found
}

// forget drops what is known, for a long run.
func (e *events) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = nil
}

// tail are the last messages, for a test that fails.
func (e *events) tail(from time.Time) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var b strings.Builder
	for _, v := range e.all {
		if !v.at.Before(from) {
			fmt.Fprintf(&b, "\n  %v %s: %s %s", v.at.Sub(from), v.of, v.message, v.text)
		}
	}
	return b.String()
}

type logOf struct {
	events *events
	name   catalog.ClusterName
}

func (l *logOf) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }
func (l *logOf) WithAttrs([]slog.Attr) slog.Handler               { return l }
func (l *logOf) WithGroup(string) slog.Handler                    { return l }

func (l *logOf) Handle(_ context.Context, r slog.Record) error {
	v := event{at: time.Now(), of: l.name, message: r.Message}
	var b strings.Builder
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "cluster" {
			v.cluster = catalog.ClusterName(a.Value.String())
		}
		fmt.Fprintf(&b, "%s=%v ", a.Key, a.Value)
		return true
	})
	v.text = b.String()
	l.events.mu.Lock()
	defer l.events.mu.Unlock()
	l.events.all = append(l.events.all, v)
	return nil
}
