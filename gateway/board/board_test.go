package board_test

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/board"
	"github.com/isthmus-mesh/isthmus/gateway/health"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	web     = catalog.MustServiceName("web")
	billing = catalog.MustServiceName("billing")
	http    = []catalog.Port{{Name: "http", Protocol: catalog.HTTP}}
)

func endpoints(ids ...string) (out []catalog.Endpoint) {
	for i, id := range ids {
		out = append(out, catalog.Endpoint{
			ID: id, Port: "http", Weight: 1, Health: catalog.Passing,
			Address: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(1000+i)),
		})
	}
	return out
}

// table has web here and in beta, billing in beta (as invoices there) and gamma.
func table() *route.Table {
	remote := func(c catalog.ClusterName, name string) route.Remote {
		return route.Remote{Cluster: c, Name: catalog.MustServiceName(name), Ports: http, Rows: []catalog.SummaryRow{{Port: "http", Ready: 2, Total: 2}}}
	}
	return &route.Table{
		Format: route.TableFormat, Epoch: 1, Version: 1,
		Cluster: route.Cluster{Name: "alpha", ID: "spiffe://a.test/isthmus/cluster/alpha"},
		Peers:   []route.Peer{{Name: "beta", ID: "spiffe://b.test/isthmus/cluster/beta"}, {Name: "gamma", ID: "spiffe://c.test/isthmus/cluster/gamma"}},
		Services: []route.Service{
			{Name: billing, Ports: http, Remote: []route.Remote{remote("beta", "invoices"), remote("gamma", "billing")}},
			{Name: web, Ports: http, Endpoints: endpoints("w1", "w2", "w3", "w4"), ExportedTo: []catalog.ClusterName{"beta"}, Remote: []route.Remote{remote("beta", "web")}},
		},
	}
}

func target(s catalog.ServiceName, c catalog.ClusterName) route.Target {
	return route.Target{Service: s, Port: "http", Cluster: c}
}

func webEndpoint(id string) route.EndpointKey {
	return route.EndpointKey{Service: web, Port: "http", ID: id}
}

// links is a set of links that a test changes.
type links struct {
	mu  sync.Mutex
	set []board.Link
}

func (l *links) put(set ...board.Link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.set = set
}

func (l *links) get() []board.Link {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]board.Link(nil), l.set...)
}

// run starts a board with the table in a bubble.
func run(t *testing.T, l *links, r prometheus.Registerer) *board.Board {
	t.Helper()
	b, err := board.New(board.Options{
		Cluster: "alpha", Links: l.get, Registerer: r,
		Ramp:   route.RampOptions{Hold: 10 * time.Second, Step: 0.25, Interval: 2 * time.Second},
		Random: rand.New(rand.NewPCG(1, 1)).Uint64,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if b.Plan() != nil {
		t.Fatal("a plan before any table")
	}
	b.SetTable(table())
	return b
}

func everyone([]catalog.ClusterName) bool { return true }

// settle lets the board take in what was told.
func settle() { time.Sleep(2 * board.MinInterval) }

func TestManyChangesCostFewPlans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		b := run(t, new(links), registry)
		settle()
		count := func() float64 {
			n, err := testutil.GatherAndCount(registry, "isthmus_gateway_plans_total")
			if err != nil || n != 1 {
				t.Fatal(n, err)
			}
			families, _ := registry.Gather()
			for _, f := range families {
				if f.GetName() == "isthmus_gateway_plans_total" {
					return f.Metric[0].Counter.GetValue()
				}
			}
			return 0
		}
		before := count()
		for range 1000 { // one second of changes
			b.Touch()
			time.Sleep(time.Millisecond)
		}
		if n := count() - before; n < 15 || n > 21 {
			t.Errorf("1000 changes in a second cost %v plans, want about 20", n)
		}
		before = count()
		time.Sleep(10 * time.Second)
		if n := count() - before; n > 11 {
			t.Errorf("ten quiet seconds cost %v plans", n)
		}
	})
}

func TestFailuresInARowEjectOneServiceInOneCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		b := run(t, new(links), registry)
		beta := target(billing, "beta")
		for range 4 {
			b.Observe(beta, nil, route.ServiceFailure, false)
		}
		b.Observe(beta, nil, route.Success, false) // the row is broken
		for range 4 {
			b.Observe(beta, nil, route.ServiceFailure, false)
			b.Observe(beta, nil, route.LinkFailure, false) // speaks of the link
			b.Observe(beta, nil, route.Refusal, false)
			b.Observe(beta, nil, route.CallerFailure, false)
		}
		settle()
		if e := b.Evidence().Targets[beta]; !e.EjectedUntil.IsZero() {
			t.Fatalf("ejected too early: %+v", e)
		}
		b.Observe(beta, nil, route.ServiceFailure, false)
		settle()
		e := b.Evidence()
		if got := e.Targets[beta]; !got.EjectedUntil.After(time.Now()) || got.Reason == "" {
			t.Fatalf("not ejected: %+v", got)
		}
		if got := e.Targets[target(web, "beta")]; !got.EjectedUntil.IsZero() {
			t.Errorf("web behind the same gateways is ejected too: %+v", got)
		}
		for range 10 { // the other one may not go as well
			b.Observe(target(billing, "gamma"), nil, route.ServiceFailure, false)
		}
		settle()
		if got := b.Evidence().Targets[target(billing, "gamma")]; !got.EjectedUntil.IsZero() {
			t.Errorf("both targets of a service are ejected: %+v", got)
		}
		time.Sleep(time.Until(e.Targets[beta].EjectedUntil) + time.Millisecond)
		b.Observe(beta, nil, route.Success, false) // the probation
		settle()
		got := b.Evidence().Targets[beta]
		if !got.EjectedUntil.IsZero() || got.Withheld != 1 {
			t.Fatalf("after the probation: %+v, want the hold-down", got)
		}
		time.Sleep(10 * time.Second)
		if got := b.Evidence().Targets[beta]; got.Withheld != 0.75 {
			t.Fatalf("after the hold-down: %+v", got)
		}
		time.Sleep(6 * time.Second)
		if got := b.Evidence().Targets[beta]; got.Withheld != 0 {
			t.Fatalf("after the ramp: %+v", got)
		}
		if n := testutil.CollectAndCount(registry, "isthmus_gateway_ejections_total"); n != 1 {
			t.Errorf("%d series of ejections", n)
		}
	})
}

func TestCertainFailuresEjectSooner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t, new(links), nil)
		beta := target(billing, "beta")
		for i := range 3 {
			settle()
			if e := b.Evidence().Targets[beta]; !e.EjectedUntil.IsZero() {
				t.Fatalf("ejected after %d", i)
			}
			b.Observe(beta, nil, route.ServiceFailure, true)
		}
		settle()
		if e := b.Evidence().Targets[beta]; e.EjectedUntil.IsZero() {
			t.Fatal("not ejected after three")
		}
	})
}

func TestAClusterThatComesBackIsRamped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := new(links)
		b := run(t, l, nil)
		settle()
		if e := b.Evidence().Links["beta"]; e.Up || e.Withheld != 0 {
			t.Fatalf("before the first link: %+v", e)
		}
		up := board.Link{Cluster: "beta", Up: true, RTT: 20 * time.Millisecond, Loss: 0.01}
		slow := board.Link{Cluster: "beta", Up: true, RTT: 90 * time.Millisecond}
		l.put(slow, up, board.Link{Cluster: "beta", Draining: true, RTT: time.Millisecond})
		b.Touch()
		settle()
		e := b.Evidence().Links["beta"]
		if !e.Up || e.Withheld != 0 || e.RTT != up.RTT || e.Distance != up.RTT || e.Loss != 0.01 {
			t.Fatalf("the first link after a start serves at once by its best: %+v", e)
		}
		l.put(board.Link{Cluster: "beta", Draining: true})
		b.Touch()
		settle()
		if e := b.Evidence().Links["beta"]; e.Up || !e.Draining || e.Distance != up.RTT {
			t.Fatalf("all gateways drain: %+v", e)
		}
		l.put(up)
		b.Touch()
		settle()
		if e := b.Evidence().Links["beta"]; !e.Up || e.Withheld != 1 {
			t.Fatalf("back: %+v, want the hold-down", e)
		}
		time.Sleep(10 * time.Second)
		if e := b.Evidence().Links["beta"]; e.Withheld != 0.75 {
			t.Fatalf("ramp: %+v", e)
		}
	})
}

func TestFarReportsCountWhileTheyAreFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t, new(links), nil)
		report := func(service string, ready, total uint32) wire.Report {
			return wire.Report{Services: []wire.ServiceReport{
				{Service: service, Port: "http", Ready: ready, Total: total},
				{Service: "secret.default", Port: "http", Ready: 1, Total: 1},
			}}
		}
		b.TakeReport("beta", "gw1", report("invoices.default", 0, 3)) // cannot reach them
		b.TakeReport("beta", "gw2", report("invoices.default", 2, 3))
		settle()
		e := b.Evidence().Targets[target(billing, "beta")]
		if !e.Reported || e.Ready != 2 || e.Total != 3 {
			t.Fatalf("got %+v, want the best word, under the own name", e)
		}
		b.TakeReport("beta", "gw2", report("invoices.default", 0, 3))
		settle()
		if e := b.Evidence().Targets[target(billing, "beta")]; e.Ready != 0 || e.Withheld != 0 {
			t.Fatalf("nothing ready: %+v", e)
		}
		b.TakeReport("beta", "gw2", report("invoices.default", 3, 3))
		settle()
		if e := b.Evidence().Targets[target(billing, "beta")]; e.Ready != 3 || e.Withheld != 1 {
			t.Fatalf("ready again: %+v, want the hold-down", e)
		}
		time.Sleep(7 * time.Second)
		if e := b.Evidence().Targets[target(billing, "beta")]; e.Reported {
			t.Fatalf("a word of 7 s ago still counts: %+v", e)
		}
	})
}

func TestChecksAndOutcomesOfOwnEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t, new(links), nil)
		own := target(web, "alpha")
		fail := func(id string) {
			for range 5 {
				k := webEndpoint(id)
				b.Observe(own, &k, route.ServiceFailure, false)
				b.Observe(own, nil, route.Success, false) // the service as a whole is well
			}
		}
		b.SetHealth(webEndpoint("w1"), health.State{Reason: "timeout", Since: time.Now()})
		b.SetHealth(webEndpoint("stranger"), health.State{Healthy: true})
		fail("w2")
		settle()
		e := b.Evidence().Endpoints
		if len(e) != 2 || e[webEndpoint("w1")].Healthy || e[webEndpoint("w1")].Reason != "timeout" {
			t.Fatalf("got %+v", e)
		}
		if got := e[webEndpoint("w2")]; !got.Healthy || !got.EjectedUntil.After(time.Now()) {
			t.Fatalf("w2 failed five times in a row: %+v", got)
		}
		fail("w3")
		fail("w4") // beyond half of them
		settle()
		if got := b.Evidence().Endpoints[webEndpoint("w4")]; !got.EjectedUntil.IsZero() {
			t.Fatalf("w4 is ejected though half are already: %+v", got)
		}
		r := b.OwnReport(everyone)
		want := wire.ServiceReport{Service: "web.default", Port: "http", Ready: 1, Total: 4}
		if len(r.Services) != 1 || r.Services[0] != want {
			t.Fatalf("own report %+v, want %+v", r, want)
		}
		b.SetHealth(webEndpoint("w3"), health.State{Reason: "timeout", Since: time.Now()})
		b.SetHealth(webEndpoint("w3"), health.State{Healthy: true, Since: time.Now()})
		settle()
		if got := b.Evidence().Endpoints[webEndpoint("w3")]; !got.Healthy || !got.EjectedUntil.IsZero() {
			t.Fatalf("a check that passes again must end the ejection: %+v", got)
		}
	})
}

func TestWhatATableNoLongerKnowsIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		l := new(links)
		l.put(board.Link{Cluster: "beta", Up: true}, board.Link{Cluster: "gamma", Up: true})
		b := run(t, l, registry)
		series := func() (n int) {
			for _, name := range []string{"isthmus_gateway_ejections_total", "isthmus_gateway_cluster_up", "isthmus_gateway_cluster_withheld_ratio"} {
				n += testutil.CollectAndCount(registry, name)
			}
			return n
		}
		base := series()
		for range 20 { // churn
			for range 5 {
				b.Observe(target(billing, "beta"), nil, route.ServiceFailure, false)
			}
			k := webEndpoint("w1")
			for range 5 {
				b.Observe(target(web, "alpha"), &k, route.ServiceFailure, false)
			}
			b.TakeReport("gamma", "gw", wire.Report{})
			settle()
			b.SetTable(&route.Table{Format: route.TableFormat, Cluster: route.Cluster{Name: "alpha"}})
			if e := b.Evidence(); len(e.Targets)+len(e.Endpoints)+len(e.Links) != 0 {
				t.Fatalf("an empty table has evidence: %+v", e)
			}
			if n := series(); n != 0 {
				t.Fatalf("%d series of nothing", n)
			}
			b.SetTable(table())
			if e := b.Evidence().Targets[target(billing, "beta")]; !e.EjectedUntil.IsZero() {
				t.Fatalf("a new service inherited %+v", e)
			}
		}
		if got := series(); got != base {
			t.Errorf("%d series after churn, %d before", got, base)
		}
	})
}

func TestObserveIsSafeWhileTablesChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t, new(links), nil)
		var stop atomic.Bool
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				k := webEndpoint("w1")
				for n := 0; !stop.Load(); n++ {
					b.Observe(target(web, "alpha"), &k, route.Outcome((n+i)%2), false)
					b.OwnReport(everyone)
					b.TakeReport("beta", "gw", wire.Report{})
					time.Sleep(time.Millisecond)
				}
			})
		}
		for range 50 {
			b.SetTable(table())
			time.Sleep(10 * time.Millisecond)
		}
		stop.Store(true)
		wg.Wait()
	})
}
