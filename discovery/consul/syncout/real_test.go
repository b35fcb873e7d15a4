package syncout_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/consul"
	"github.com/isthmus-mesh/isthmus/discovery/consul/agent"
	"github.com/isthmus-mesh/isthmus/discovery/consul/consultest"
	"github.com/isthmus-mesh/isthmus/discovery/consul/syncout"
	"github.com/isthmus-mesh/isthmus/e2e/tools"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errWaiting = errors.New("nothing yet")

// within is far above what Consul takes: these are no tests of its speed.
const within = 60 * time.Second

func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	for deadline := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
	}
}

// offers is what a federation would say.
type offers struct {
	mu    sync.Mutex
	offer syncout.Offer
	known bool
}

func (o *offers) set(ways ...syncout.Way) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.known, o.offer = true, syncout.Offer{Gateways: []string{"gw1"}, Ways: ways}
}

func (o *offers) get() (syncout.Offer, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.offer, o.known
}

func way(service, address string, reachable bool) syncout.Way {
	return syncout.Way{
		Service: catalog.MustServiceName(service), Protocol: catalog.TCP, Gateway: "gw1",
		Address: netip.MustParseAddrPort(address), Reachable: reachable, Reason: map[bool]string{true: "reachable in west", false: "no link to west"}[reachable],
	}
}

// start runs a writer of the cluster until the test ends, or stop.
func start(t *testing.T, cluster, name string, o *offers, c syncout.Config) (registry *prometheus.Registry, stop func()) {
	t.Helper()
	registry = prometheus.NewRegistry()
	w, err := syncout.New(syncout.Options{Config: c, Cluster: catalog.ClusterName(cluster), Name: name, Offers: o.get, Registerer: registry})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := w.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	return registry, stop
}

// metric is the value of a metric, -1 if there is none.
func metric(t *testing.T, r *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() != "isthmus_consul_sync_out_"+name || label != "" && m.GetLabel()[0].GetValue() != label {
				continue
			}
			if m.GetCounter() != nil {
				return m.GetCounter().GetValue()
			}
			return m.GetGauge().GetValue()
		}
	}
	return -1
}

// ask is what Consul's DNS says of a name: "ip:port" for each answer, sorted.
func ask(t *testing.T, a *consultest.Agent, name string) ([]string, error) {
	t.Helper()
	q := new(dns.Msg)
	q.SetQuestion(name+".service.consul.", dns.TypeSRV)
	answer, _, err := (&dns.Client{Timeout: 5 * time.Second}).ExchangeContext(t.Context(), q, a.DNS())
	if err != nil {
		return nil, err
	}
	ips := map[string]string{}
	for _, rr := range answer.Extra {
		if r, ok := rr.(*dns.A); ok {
			ips[r.Hdr.Name] = r.A.String()
		}
	}
	var out []string
	for _, rr := range answer.Answer {
		if r, ok := rr.(*dns.SRV); ok {
			out = append(out, fmt.Sprintf("%s:%d", ips[r.Target], r.Port))
		}
	}
	slices.Sort(out)
	return out, nil
}

func answers(t *testing.T, a *consultest.Agent, name string, want ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s.service.consul answers %v", name, want), func() error {
		got, err := ask(t, a, name)
		if err == nil && !slices.Equal(got, want) {
			err = fmt.Errorf("answered %v", got)
		}
		return err
	})
}

func realAgent(t *testing.T, o consultest.Options) (*consultest.Agent, syncout.Config) {
	t.Helper()
	o.Binary, o.Dev = tools.Require(t, "consul"), true
	a := consultest.Start(t, o)
	return a, syncout.Config{Config: agent.Config{Address: a.Address()}, Tags: []string{"isthmus"}, SessionTTL: 10 * time.Second}
}

func TestRealConsulAnswersWithTheGateway(t *testing.T) {
	t.Parallel()
	a, c := realAgent(t, consultest.Options{})
	o := &offers{}
	registry, _ := start(t, "east", "f1", o, c)
	eventually(t, "the lock is held", func() error {
		if metric(t, registry, "writer", "") != 1 {
			return fmt.Errorf("not the writer")
		}
		return nil
	})
	o.set(way("billing", "10.9.0.1:9000", true), way("orders.shop", "10.9.0.1:9001", true))
	answers(t, a, "billing", "10.9.0.1:9000")
	answers(t, a, "isthmus.billing", "10.9.0.1:9000")
	answers(t, a, "orders-shop", "10.9.0.1:9001")

	o.set(way("billing", "10.9.0.1:9000", false), way("orders.shop", "10.9.0.1:9001", true))
	answers(t, a, "billing") // nowhere to be reached: no answer, and still registered
	entries, _, err := a.Client().Health().Service("billing", "", false, nil)
	if err != nil || len(entries) != 1 || entries[0].Checks.AggregatedStatus() != api.HealthCritical || entries[0].Checks[0].Output != "no link to west" {
		t.Errorf("got %+v, %v", entries, err)
	}
	meta := entries[0].Service.Meta
	if meta[agent.OwnerMeta] != "east" || meta["isthmus-writer"] != "f1" || meta["isthmus-service"] != "billing.default" || meta["isthmus-gateway"] != "gw1" {
		t.Errorf("marked %v", meta)
	}
	o.set(way("billing", "10.9.0.2:9000", true))
	answers(t, a, "billing", "10.9.0.2:9000")
	eventually(t, "the import that is gone is gone from consul", func() error {
		names, _, err := a.Client().Catalog().Services(nil)
		if _, still := names["orders-shop"]; err == nil && still {
			err = fmt.Errorf("still there")
		}
		return err
	})
	// Somebody deletes the whole node: it is made anew.
	if _, err := a.Client().Catalog().Deregister(&api.CatalogDeregistration{Node: "isthmus-east"}, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "gone", func() error {
		if got, err := ask(t, a, "billing"); err != nil || len(got) == 0 {
			return err
		}
		return nil
	})
	answers(t, a, "billing", "10.9.0.2:9000")
	// A federation that knows nothing yet takes nothing away.
	o.mu.Lock()
	o.known, o.offer = false, syncout.Offer{}
	o.mu.Unlock()
	time.Sleep(3 * time.Second)
	answers(t, a, "billing", "10.9.0.2:9000")
}

// What others have registered, under the same name or on the same node, is left
// alone; when they go, the import takes their place.
func TestRealConsulForeignEntriesAreLeftAlone(t *testing.T) {
	t.Parallel()
	a, c := realAgent(t, consultest.Options{})
	a.Register(&api.AgentServiceRegistration{ID: "billing-1", Name: "billing", Address: "10.1.0.1", Port: 80})
	o := &offers{}
	o.set(way("billing", "10.9.0.1:9000", true), way("orders", "10.9.0.1:9001", true))
	registry, _ := start(t, "east", "f1", o, c)
	answers(t, a, "orders", "10.9.0.1:9001")
	answers(t, a, "billing", "10.1.0.1:80")
	eventually(t, "the conflict is told", func() error {
		if n := metric(t, registry, "refused", syncout.Taken); n != 1 {
			return fmt.Errorf("%v", n)
		}
		return nil
	})
	// A real service of a name that is registered already.
	a.Register(&api.AgentServiceRegistration{ID: "orders-1", Name: "orders", Address: "10.1.0.2", Port: 81})
	answers(t, a, "orders", "10.1.0.2:81")
	// Somebody puts an entry of his own on our node.
	if _, err := a.Client().Catalog().Register(&api.CatalogRegistration{
		Node: "isthmus-east", Address: "127.0.0.1", SkipNodeUpdate: true,
		Service: &api.AgentService{ID: "mine", Service: "mine", Address: "10.1.0.3", Port: 82},
	}, nil); err != nil {
		t.Fatal(err)
	}
	a.Deregister("billing-1")
	a.Deregister("orders-1")
	answers(t, a, "billing", "10.9.0.1:9000")
	answers(t, a, "orders", "10.9.0.1:9001")
	answers(t, a, "mine", "10.1.0.3:82")
	o.set()
	answers(t, a, "billing")
	answers(t, a, "mine", "10.1.0.3:82")

	// Two clusters in one datacenter agree on who registers a name.
	both := &offers{}
	both.set(way("common", "10.9.0.1:9009", true))
	other := &offers{}
	other.set(way("common", "10.8.0.1:9009", true))
	start(t, "aaa", "g1", other, c)
	answers(t, a, "common", "10.8.0.1:9009")
	o.set(way("common", "10.9.0.1:9009", true))
	time.Sleep(3 * time.Second)
	answers(t, a, "common", "10.8.0.1:9009")
	other.set()
	answers(t, a, "common", "10.9.0.1:9009")
	other.set(way("common", "10.8.0.1:9009", true))
	answers(t, a, "common", "10.8.0.1:9009")
}

// A node that somebody else has made is not ours, whatever it is called.
func TestRealConsulForeignNodeIsLeftAlone(t *testing.T) {
	t.Parallel()
	a, c := realAgent(t, consultest.Options{})
	c.Node = "node-dc1" // the agent's own
	o := &offers{}
	o.set(way("billing", "10.9.0.1:9000", true))
	registry, _ := start(t, "east", "f1", o, c)
	eventually(t, "the conflict is told", func() error {
		if n := metric(t, registry, "refused", syncout.Node); n != 1 {
			return fmt.Errorf("%v", n)
		}
		return nil
	})
	if got, err := ask(t, a, "billing"); err != nil || len(got) != 0 {
		t.Errorf("answered %v, %v", got, err)
	}
}

// The writer's session ends (it was killed, or cut off): another process takes
// over, the name answers all the time, and what the first one still sends changes
// nothing.
func TestRealConsulHandsOverWithoutAGap(t *testing.T) {
	t.Parallel()
	a, c := realAgent(t, consultest.Options{})
	first, second := &offers{}, &offers{}
	first.set(way("billing", "10.9.0.1:9000", true))
	second.set(way("billing", "10.9.0.1:9000", true))
	r1, stop := start(t, "east", "f1", first, c)
	answers(t, a, "billing", "10.9.0.1:9000")
	r2, _ := start(t, "east", "f2", second, c)

	// The answer, all the time.
	watching, done := make(chan struct{}), make(chan struct{})
	var gaps, asked int
	go func() {
		defer close(done)
		for {
			select {
			case <-watching:
				return
			case <-time.After(20 * time.Millisecond):
			}
			got, err := ask(t, a, "billing")
			if asked++; err != nil || len(got) != 1 {
				gaps++
			}
		}
	}()
	writer := func(r *prometheus.Registry, want float64) func() error {
		return func() error {
			if n := metric(t, r, "writer", ""); n != want {
				return fmt.Errorf("writer %v", n)
			}
			return nil
		}
	}
	eventually(t, "the first writes", writer(r1, 1))
	if writer(r2, 0)() != nil {
		t.Error("two writers")
	}
	// As if the first had lost its session without knowing: its writes are refused.
	pair, _, err := a.Client().KV().Get("isthmus/sync-out/east", nil)
	if err != nil || pair == nil || string(pair.Value) != "f1" {
		t.Fatalf("lock %+v, %v", pair, err)
	}
	if _, err := a.Client().Session().Destroy(pair.Session, nil); err != nil {
		t.Fatal(err)
	}
	first.set(way("billing", "10.66.0.1:9000", true), way("late", "10.66.0.1:9001", true))
	holder := func() string {
		pair, _, err := a.Client().KV().Get("isthmus/sync-out/east", nil)
		if err != nil || pair == nil || pair.Session == "" {
			return ""
		}
		return string(pair.Value)
	}
	eventually(t, "somebody holds the lock", func() error {
		if holder() == "" {
			return fmt.Errorf("nobody")
		}
		return nil
	})
	began := time.Now()
	stop() // whoever it was, the second is alone now
	second.set(way("billing", "10.9.0.1:9000", true))
	eventually(t, "the second writes", writer(r2, 1))
	t.Logf("figure: sync-out: another process held the lock %.1f s after the writer ended in order", time.Since(began).Seconds())
	answers(t, a, "billing", "10.9.0.1:9000")
	answers(t, a, "late")
	close(watching)
	<-done
	t.Logf("figure: sync-out: the name was asked for %d times across two handovers, %d times in vain", asked, gaps)
	if gaps > 0 {
		t.Errorf("%d gaps", gaps)
	}
}

// The policies of the README, exactly, are enough: for the source, which sees its
// whole catalog and not its own imports, and for the writer, which gets the names
// that they list and no other.
func TestRealConsulLeastPrivilege(t *testing.T) {
	t.Parallel()
	a, c := realAgent(t, consultest.Options{ManagementToken: "root-token"})
	a.Register(&api.AgentServiceRegistration{ID: "web-1", Name: "web", Address: "10.1.0.1", Port: 80, Connect: &api.AgentServiceConnect{SidecarService: &api.AgentServiceRegistration{}}})
	source := consul.Config{Config: agent.Config{Address: a.Address(), TokenFile: tokenFile(t, a, "source", policy(t, "source"))}, Connect: consul.ConnectSidecar}
	all, err := consul.New(consul.Options{Name: "consul", Config: source})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var last *catalog.Snapshot
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = all[0].Run(ctx, func(s *catalog.Snapshot) { mu.Lock(); defer mu.Unlock(); last = s })
	})
	defer wg.Wait()
	defer cancel()

	c.TokenFile = tokenFile(t, a, "sync-out", policy(t, "sync-out"))
	o := &offers{}
	o.set(way("billing", "10.9.0.1:9000", true), way("secret", "10.9.0.1:9001", true))
	registry, _ := start(t, "east", "f1", o, c)
	answersWithToken := func(name string, want int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%s has %d entries", name, want), func() error {
			list, _, err := a.Client().Health().Service(name, "", true, nil)
			if err == nil && len(list) != want {
				err = fmt.Errorf("%d entries", len(list))
			}
			return err
		})
	}
	answersWithToken("billing", 1)
	eventually(t, "the other name is told", func() error {
		if n := metric(t, registry, "refused", syncout.Denied); n != 1 {
			return fmt.Errorf("%v", n)
		}
		return nil
	})
	answersWithToken("secret", 0)
	eventually(t, "the source sees the mesh, and not what was imported", func() error {
		mu.Lock()
		defer mu.Unlock()
		_, err := all[0].LastRead()
		if last == nil || err != nil {
			return fmt.Errorf("%d services: %w", last.Len(), cmp.Or(err, errWaiting))
		}
		web := last.Get(catalog.MustServiceName("web"))
		if last.Len() != 1 || web == nil || len(web.Endpoints) != 1 {
			return fmt.Errorf("%d services", last.Len())
		}
		if e := web.Endpoints[0]; e.Transport != catalog.MTLS || !strings.HasSuffix(e.ServerID, "/ns/default/dc/dc1/svc/web") {
			return fmt.Errorf("got %+v", e)
		}
		return nil
	})
	o.set()
	answersWithToken("billing", 0)
}
