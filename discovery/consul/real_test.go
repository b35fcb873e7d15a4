package consul_test

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/consul"
	"github.com/isthmus-mesh/isthmus/discovery/consul/agent"
	"github.com/isthmus-mesh/isthmus/discovery/consul/consultest"
	"github.com/isthmus-mesh/isthmus/e2e/tools"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// The tests on faults wait nearly all of their time, so the number of
	// processors is no measure of how many run at once.
	if err := flag.Set("test.parallel", "32"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// within is far above what Consul takes: these are no tests of its speed.
const within = 30 * time.Second

// recorder keeps what a source publishes.
type recorder struct {
	source *consul.Source
	stop   func()
	mu     sync.Mutex
	snaps  []*catalog.Snapshot
}

func (r *recorder) publish(s *catalog.Snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.snaps = append(r.snaps, s)
}

func (r *recorder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.snaps)
}

func (r *recorder) last() *catalog.Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.snaps) == 0 {
		return nil
	}
	return r.snaps[len(r.snaps)-1]
}

// await waits until the newest snapshot passes.
func (r *recorder) await(t *testing.T, what string, check func(*catalog.Snapshot) bool) *catalog.Snapshot {
	t.Helper()
	return r.within(t, within, what, check)
}

func (r *recorder) within(t *testing.T, within time.Duration, what string, check func(*catalog.Snapshot) bool) *catalog.Snapshot {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		if s := r.last(); s != nil && check(s) {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s; last: %.2000s", what, within, text(r.last()))
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func text(s *catalog.Snapshot) string {
	if s == nil {
		return "nothing published"
	}
	b, err := s.MarshalJSON()
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func endpoints(s *catalog.Snapshot, name string) []catalog.Endpoint {
	if v := s.Get(catalog.MustServiceName(name)); v != nil {
		return v.Endpoints
	}
	return nil
}

// start runs a source until the test ends and starts it again when it gives up,
// as the runner does.
func start(t *testing.T, cfg consul.Config) *recorder {
	t.Helper()
	all, err := consul.New(consul.Options{
		Name: "consul", Config: cfg,
		Locality: catalog.Locality{Cloud: "aws", Region: "us-east-1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := all[0]
	r := &recorder{source: s}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := s.Run(ctx, r.publish); err != nil {
				t.Logf("source: %v", err)
				time.Sleep(100 * time.Millisecond)
			}
		}
	})
	r.stop = func() { cancel(); wg.Wait() }
	t.Cleanup(r.stop)
	return r
}

func realAgent(t *testing.T, o consultest.Options) *consultest.Agent {
	o.Binary = tools.Require(t, "consul")
	return consultest.Start(t, o)
}

func TestRealConsulServicesFollowRegistrationsAndHealth(t *testing.T) {
	t.Parallel()
	a := realAgent(t, consultest.Options{Dev: true, Region: "eu-west-1", Zone: "euw1-az1"})
	r := start(t, consul.Config{Config: agent.Config{Address: a.Address()}, LabelMeta: []string{"version"}, AddressTag: "wan"})
	r.await(t, "an empty catalog", func(s *catalog.Snapshot) bool { return s.Len() == 0 })

	a.Register(&api.AgentServiceRegistration{
		ID: "web-1", Name: "web", Address: "127.0.0.1", Port: 8080,
		Meta:    map[string]string{"isthmus-protocol": "http", "version": "v2"},
		Weights: &api.AgentWeights{Passing: 10, Warning: 3},
		Check:   &api.AgentServiceCheck{CheckID: "web-ttl", TTL: "1h", Status: api.HealthPassing},
	})
	s := r.await(t, "web registered", func(s *catalog.Snapshot) bool { return len(endpoints(s, "web")) == 1 })
	got := endpoints(s, "web")[0]
	want := catalog.Endpoint{
		ID: "node-dc1/web-1", Port: catalog.DefaultPort, Address: got.Address,
		Locality: catalog.Locality{Cloud: "aws", Region: "eu-west-1", Zone: "euw1-az1"},
		Weight:   10, Health: catalog.Passing, Labels: map[string]string{"version": "v2"}, Source: got.Source,
	}
	if !got.Equal(want) || got.Address.String() != "127.0.0.1:8080" {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if p := s.Get(catalog.MustServiceName("web")).Ports[0]; p.Protocol != catalog.HTTP {
		t.Errorf("protocol %q, want http from the meta", p.Protocol)
	}

	a.SetTTL("web-ttl", api.HealthWarning)
	r.await(t, "warning has its weight", func(s *catalog.Snapshot) bool {
		e := endpoints(s, "web")
		return len(e) == 1 && e[0].Health == catalog.Warning && e[0].Weight == 3
	})
	a.SetTTL("web-ttl", api.HealthCritical)
	r.await(t, "critical", func(s *catalog.Snapshot) bool {
		e := endpoints(s, "web")
		return len(e) == 1 && e[0].Health == catalog.Critical
	})
	if err := a.Client().Agent().EnableServiceMaintenance("web-1", "test"); err != nil {
		t.Fatal(err)
	}
	r.await(t, "maintenance", func(s *catalog.Snapshot) bool {
		e := endpoints(s, "web")
		return len(e) == 1 && e[0].Health == catalog.Maintenance
	})
	before := r.count()
	r.source.Reread()
	r.await(t, "the same again", func(*catalog.Snapshot) bool { return r.count() > before })
	if at, err := r.source.LastRead(); err != nil || time.Since(at) > within {
		t.Errorf("last read %s, %v", at, err)
	}
	a.Deregister("web-1")
	r.await(t, "web gone", func(s *catalog.Snapshot) bool { return s.Len() == 0 })
}

// An instance without a check, with the same name and tags as another one,
// shows neither in the list of services nor among the checks.
func TestRealConsulSweepFindsWhatTheTriggersDoNotShow(t *testing.T) {
	t.Parallel()
	a := realAgent(t, consultest.Options{Dev: true})
	a.Register(&api.AgentServiceRegistration{ID: "db-1", Name: "db", Address: "127.0.0.1", Port: 5432})
	r := start(t, consul.Config{Config: agent.Config{Address: a.Address()}})
	r.await(t, "db-1", func(s *catalog.Snapshot) bool { return len(endpoints(s, "db")) == 1 })
	a.Register(&api.AgentServiceRegistration{ID: "db-2", Name: "db", Address: "127.0.0.2", Port: 5432})
	r.await(t, "db-2", func(s *catalog.Snapshot) bool { return len(endpoints(s, "db")) == 2 })
	a.Register(&api.AgentServiceRegistration{ID: "db-2", Name: "db", Address: "127.0.0.3", Port: 5432})
	r.await(t, "db-2 moved", func(s *catalog.Snapshot) bool {
		e := endpoints(s, "db")
		return len(e) == 2 && e[1].Address.Addr().String() == "127.0.0.3"
	})
}

func TestRealConsulKilledAndRestoredLosesNothing(t *testing.T) {
	a := realAgent(t, consultest.Options{})
	for i := range 20 {
		a.Register(&api.AgentServiceRegistration{ID: fmt.Sprintf("s-%d", i), Name: fmt.Sprintf("s-%d", i), Address: "127.0.0.1", Port: 9000 + i})
	}
	r := start(t, consul.Config{Config: agent.Config{Address: a.Address()}})
	r.await(t, "20 services", func(s *catalog.Snapshot) bool { return s.Len() == 20 })
	before := r.count()
	a.Kill()
	time.Sleep(2 * time.Second) // several failed attempts, and the source's restart
	if _, err := r.source.LastRead(); err == nil {
		t.Error("the source reports no failure while Consul is dead")
	}
	if r.count() != before {
		t.Errorf("published %d snapshots while Consul was dead, last: %s", r.count()-before, text(r.last()))
	}
	a.Restart()
	a.Register(&api.AgentServiceRegistration{ID: "s-20", Name: "s-20", Address: "127.0.0.1", Port: 9020})
	r.await(t, "21 services", func(s *catalog.Snapshot) bool { return s.Len() == 21 })
	for _, s := range r.snaps[before:] {
		if s.Len() < 20 {
			t.Errorf("a snapshot of %d services was published after the restart", s.Len())
		}
	}
}

// A -dev agent that starts again has low indexes; the source must not wait for
// the old, high one.
func TestRealConsulIndexReset(t *testing.T) {
	a := realAgent(t, consultest.Options{Dev: true})
	for i := range 30 {
		a.Register(&api.AgentServiceRegistration{ID: "web", Name: "web", Address: "127.0.0.1", Port: 8000 + i})
	}
	r := start(t, consul.Config{Config: agent.Config{Address: a.Address()}})
	r.await(t, "web", func(s *catalog.Snapshot) bool {
		e := endpoints(s, "web")
		return len(e) == 1 && e[0].Address.Port() == 8029
	})
	a.Kill()
	a.Restart()
	a.Register(&api.AgentServiceRegistration{ID: "api", Name: "api", Address: "127.0.0.1", Port: 9999})
	r.await(t, "the new catalog", func(s *catalog.Snapshot) bool {
		return len(endpoints(s, "api")) == 1 && len(endpoints(s, "web")) == 0
	})
}
