package federation_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/federation/store"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/ca"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// fails runs a federation that cannot start.
func fails(t *testing.T, c *cluster) error {
	t.Helper()
	fed, err := federation.New(federation.Options{
		Config: c.config, Cluster: catalog.ClusterName(c.name), Identity: c.ca.Source(c.id, c.ca.Bundle()),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err = fed.Run(ctx); err == nil {
		t.Fatal("it ran")
	}
	return err
}

func TestStartsThatFail(t *testing.T) {
	t.Parallel()
	w := newWAN()
	t.Run("the data directory is taken", func(t *testing.T) {
		running := newCluster(t, w, "east")
		running.source.publish()
		running.start()
		second := newCluster(t, w, "east")
		second.config.DataDir = running.config.DataDir
		var oe *store.OpenError
		if err := fails(t, second); !errors.As(err, &oe) || oe.Reason != store.Locked {
			t.Errorf("Run = %v, want %s", err, store.Locked)
		}
	})
	t.Run("the store is damaged", func(t *testing.T) {
		c := newCluster(t, w, "east")
		if err := os.MkdirAll(c.config.DataDir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(c.config.DataDir, "store.db"), []byte("noise"), 0o600); err != nil {
			t.Fatal(err)
		}
		var oe *store.OpenError
		if err := fails(t, c); !errors.As(err, &oe) || oe.Reason != store.Damaged {
			t.Errorf("Run = %v, want %s", err, store.Damaged)
		}
	})
	t.Run("an address is in use", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		for _, spoil := range []func(*federation.Config){
			func(c *federation.Config) { c.Listen = l.Addr().String() },
			func(c *federation.Config) { c.API.Address = l.Addr().String() },
		} {
			c := newCluster(t, w, "east")
			spoil(&c.config)
			var oe *net.OpError
			if err := fails(t, c); !errors.As(err, &oe) {
				t.Errorf("Run = %v, want a listen error", err)
			}
			if _, err := os.Stat(c.config.API.Socket); err == nil {
				t.Error("the socket was left behind")
			}
		}
	})
	t.Run("a peer with the own id", func(t *testing.T) {
		c := newCluster(t, w, "east")
		c.config.Peers = []federation.Peer{{Name: "west", ID: c.id.String() + "/gateway/gw-1"}}
		_ = fails(t, c)
	})
	t.Run("the token may be read by others", func(t *testing.T) {
		c := newCluster(t, w, "east")
		c.config.API.Address = "127.0.0.1:0"
		c.config.API.TokenFile = filepath.Join(c.dir, "token")
		if err := os.WriteFile(c.config.API.TokenFile, []byte("0123456789012345678901234567890123456789"), 0o644); err != nil {
			t.Fatal(err)
		}
		_ = fails(t, c)
	})
}

// A start with a source that has nothing to say waits for it, and then says what
// is missing.
func TestASilentSourceIsWaitedFor(t *testing.T) {
	t.Parallel()
	c := newCluster(t, newWAN(), "east").start()
	g := c.gateway("gw-1")
	var se *client.StatusError
	if err := c.api.Ready(t.Context()); !errors.As(err, &se) || se.Status != 503 {
		t.Fatalf("Ready = %v, want 503", err)
	}
	time.Sleep(300 * time.Millisecond)
	if len(g.tables) > 0 {
		t.Fatal("a table went out before the source had spoken")
	}
	c.clock.forward(31 * time.Second)
	g.until("anything", func(*route.Table) bool { return true })
	if err := c.api.Ready(t.Context()); err != nil {
		t.Errorf("Ready = %v", err)
	}
	eventually(t, "an event says so", func() bool {
		events, err := c.api.Events().List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if e.Kind == "catalog_partial" && e.Subject == "registry" {
				return true
			}
		}
		return false
	})
}

// Withdrawals beyond the guard's measure are held until an operator says so.
func TestTheGuardAndTheOperatorsWord(t *testing.T) {
	t.Parallel()
	c := newCluster(t, newWAN(), "east")
	c.source.publish(service("web.shop", 20))
	c.start()
	g := c.gateway("gw-1")
	endpoints := func(n, held int) func(*route.Table) bool {
		return func(t *route.Table) bool {
			return len(t.Services) == 1 && len(t.Services[0].Endpoints) == n && len(t.Services[0].Quarantined) == held
		}
	}
	g.until("20 endpoints", endpoints(20, 0))
	c.source.publish(service("web.shop", 2))
	g.until("18 held", endpoints(20, 18))
	eventually(t, "the source is quarantined", func() bool {
		s, err := c.api.Sources().Get(t.Context(), "registry")
		return err == nil && s.State == "quarantined" && s.QuarantinedCount == 18 && len(s.Quarantined) == 18
	})
	if n, err := c.api.Release(t.Context(), "registry"); err != nil || n != 18 {
		t.Fatalf("Release = %d, %v", n, err)
	}
	g.until("2 endpoints", endpoints(2, 0))
}

// What the guard holds and no gateway can reach is gone.
func TestTheDataPathReleasesWhatIsHeld(t *testing.T) {
	t.Parallel()
	c := newCluster(t, newWAN(), "east")
	c.source.publish(service("web.shop", 20))
	c.start()
	g := c.gateway("gw-1")
	g.mu.Lock()
	for _, e := range service("web.shop", 20).Endpoints {
		g.endpoints = append(g.endpoints, route.EndpointReport{
			Endpoint: route.EndpointKey{Service: catalog.MustServiceName("web.shop"), Port: "http", ID: e.ID}, Known: true, Healthy: e.ID < "web-5",
		})
	}
	g.mu.Unlock()
	g.until("20 endpoints", func(t *route.Table) bool { return len(t.Services) == 1 && len(t.Services[0].Endpoints) == 20 })
	c.source.publish(service("web.shop", 2))
	table := g.until("the unreachable ones gone", func(t *route.Table) bool {
		return len(t.Services[0].Endpoints) < 20 && len(t.Services[0].Quarantined) > 0
	})
	for _, id := range table.Services[0].Quarantined {
		if id >= "web-5" {
			t.Errorf("%s is held, and no gateway can reach it", id)
		}
	}
}

// Gateways that fall silent leave the roster, but the last ones never do.
func TestSilentGatewaysLeaveTheRoster(t *testing.T) {
	t.Parallel()
	p := newPair(t).synced()
	second := p.east.gateway("gw-2")
	rosterOf := func(n int) func(*route.Table) bool {
		return func(t *route.Table) bool { return len(t.Peers[0].Gateways) == n }
	}
	p.gw.until("two gateways", rosterOf(2))
	second.mu.Lock()
	second.draining = true
	second.mu.Unlock()
	p.gw.until("one of them draining", func(t *route.Table) bool {
		return slices.ContainsFunc(t.Peers[0].Gateways, func(g catalog.Gateway) bool { return g.Name == "gw-2" && g.Draining })
	})
	second.halt()
	began := time.Now()
	p.gw.until("one gateway", rosterOf(1))
	t.Logf("left the peer's roster %v after its last report", time.Since(began).Round(100*time.Millisecond))
	silent := func() bool {
		g, err := p.east.api.Gateways().Get(t.Context(), "gw-2")
		return err == nil && g.State == "silent"
	}
	eventually(t, "it is listed as silent", silent)
	p.east.clock.forward(time.Minute)
	eventually(t, "it is forgotten", func() bool {
		list, err := p.east.api.Gateways().List(t.Context())
		return err == nil && len(list) == 1 && list[0].Name == "gw-1"
	})
	eventually(t, "its series are gone", func() bool {
		_, there := p.east.gauge("isthmus_federation_report_age_seconds", map[string]string{"gateway": "gw-2"})
		return !there
	})
	p.ge.halt()
	p.east.clock.forward(10 * time.Second)
	eventually(t, "the last one is silent", func() bool {
		g, err := p.east.api.Gateways().Get(t.Context(), "gw-1")
		return err == nil && g.State == "silent"
	})
	p.gw.until("the last one still there", rosterOf(1))
}

// An exchange goes through whichever gateway can carry it.
func TestTheExchangeMovesToAnotherGateway(t *testing.T) {
	t.Parallel()
	p := newPair(t).synced()
	second := p.west.gateway("gw-2")
	eventually(t, "west knows both", func() bool {
		list, err := p.west.api.Gateways().List(t.Context())
		return err == nil && len(list) == 2
	})
	p.gw.halt()
	began := time.Now()
	eventually(t, "the exchange runs through the other", func() bool {
		peer, err := p.west.api.Peers().Get(t.Context(), "east")
		return err == nil && peer.State == "ok" && peer.Via == "gw-2"
	})
	t.Logf("moved in %v", time.Since(began).Round(time.Millisecond))
	p.east.source.publish(service("web.shop", 5))
	second.until("the next change", hasRemote("web.shop", "east", 5))
}

// A trust domain that rotates its roots tells its peers over the exchange, and
// they their gateways.
func TestBundleUpdatesCross(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a root to be rotated")
	}
	t.Parallel()
	w := newWAN()
	east, west := newCluster(t, w, "east"), newCluster(t, w, "west")
	// East lives from a real Workload API whose roots last 12 s.
	td := spiffeid.RequireTrustDomainFromString("rotating.test")
	east.id = spiffeid.RequireFromPath(td, "/isthmus/cluster/east")
	gatewayID := spiffeid.RequireFromPath(td, "/isthmus/cluster/east/gateway/gw-1")
	authority := startCA(t, ca.Config{
		TrustDomain: td, Dir: filepath.Join(east.dir, "ca"), Socket: filepath.Join(east.dir, "ca.sock"),
		SVIDTTL: 3 * time.Second, CATTL: 12 * time.Second, BundleFile: east.bundleFile(),
		Entries: []ca.Entry{{ID: east.id}, {ID: gatewayID}},
	})
	east.own = startIdentity(t, authority.Address(), east.id)
	join(east, west)
	west.config.Peers[0].Asserts = []policy.IDPattern{"spiffe://rotating.test/shop/*"}
	exports, imports := shop()
	east.config.Exports, west.config.Exports = exports, exports
	east.config.Imports, west.config.Imports = imports("west"), imports("east")
	east.source.publish(service("web.shop", 3))
	west.source.publish(service("db.shop", 1))
	east.start()
	west.start()
	east.gatewayAs("gw-1", startIdentity(t, authority.Address(), gatewayID), nil)
	gw := west.gateway("gw-1")
	first := string(gw.until("web.shop", hasRemote("web.shop", "east", 3)).Peers[0].Bundle)
	began := time.Now()
	table := gw.until("another bundle", func(t *route.Table) bool { return string(t.Peers[0].Bundle) != first })
	t.Logf("a new bundle reached the peer's gateway after %v", time.Since(began).Round(time.Millisecond))
	b, err := identity.ParseBundle(td, table.Peers[0].Bundle)
	if err != nil || len(b.Authorities) < 2 {
		t.Fatalf("bundle of %d roots, %v; want the old and the new", len(b.Authorities), err)
	}
	// The SVIDs have been replaced several times: the exchange goes on.
	time.Sleep(4 * time.Second)
	east.source.publish(service("web.shop", 6))
	gw.until("a change after the rotation", hasRemote("web.shop", "east", 6))
}

func startCA(t *testing.T, cfg ca.Config) *ca.CA {
	t.Helper()
	c, err := ca.New(cfg, ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	background(t, c.Run)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return c
}

func startIdentity(t *testing.T, address string, id spiffeid.ID) *identity.Source {
	t.Helper()
	s, err := identity.New(identity.Options{WorkloadAPI: address, ID: id})
	if err != nil {
		t.Fatal(err)
	}
	background(t, s.Run)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return s
}

func background(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

// What one cluster takes from a second it does not offer to a third, whatever
// its exports say; and each peer is told for itself.
func TestNothingIsPassedOnToAThirdCluster(t *testing.T) {
	t.Parallel()
	w := newWAN()
	east, west, north := newCluster(t, w, "east"), newCluster(t, w, "west"), newCluster(t, w, "north")
	join(east, west, north)
	_, imports := shop()
	east.config.Exports = []policy.Export{{Name: "west", Services: []policy.ServicePattern{"*.shop"}, To: []string{"west"}}}
	west.config.Exports = []policy.Export{{Name: "all", Services: []policy.ServicePattern{"*"}, To: []string{"*"}}}
	west.config.Imports, north.config.Imports = imports("east"), imports("east", "west")
	east.source.publish(service("web.shop", 3))
	west.source.publish(service("db.shop", 1))
	north.source.publish(service("idle.shop", 1))
	var gateways []*gateway
	for _, c := range []*cluster{east, west, north} {
		c.start()
		gateways = append(gateways, c.gateway("gw-1"))
	}
	gateways[1].until("web.shop in east", hasRemote("web.shop", "east", 3))
	table := gateways[2].until("db.shop in west", hasRemote("db.shop", "west", 1))
	eventually(t, "north is in sync with both", func() bool {
		for _, name := range []string{"east", "west"} {
			if p, err := north.api.Peers().Get(t.Context(), name); err != nil || p.State != "ok" {
				return false
			}
		}
		return true
	})
	for _, from := range []string{"east", "west"} {
		if r := remoteOf(table, "web.shop", from); r != nil {
			t.Errorf("web.shop reached north from %s: %+v", from, r)
		}
	}
	if p, err := north.api.Peers().Get(t.Context(), "east"); err != nil || p.Offered != 0 {
		t.Errorf("east offers north %d services, %v; want none", p.Offered, err)
	}
}
