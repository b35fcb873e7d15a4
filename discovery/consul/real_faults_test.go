package consul_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/consul"
	"github.com/isthmus-mesh/isthmus/discovery/consul/agent"
	"github.com/isthmus-mesh/isthmus/discovery/consul/consultest"
	"github.com/isthmus-mesh/isthmus/discovery/discoverytest"
)

// fleet is a node without an agent, whose services stand in the catalog alone.
const fleet = "fleet"

// commit writes into the catalog, all or nothing.
func commit(t *testing.T, a *consultest.Agent, ops api.TxnOps) {
	t.Helper()
	if len(ops) == 0 {
		return
	}
	if ok, resp, _, err := a.Client().Txn().Txn(ops, nil); err != nil || !ok {
		t.Fatalf("register: %v %+v", err, resp)
	}
}

// The contract holds on the real thing: killed and restored for its failures.
func TestRealConsulContract(t *testing.T) {
	discoverytest.Source(t, func(t *testing.T) discoverytest.Backend {
		a := realAgent(t, consultest.Options{})
		if _, err := a.Client().Catalog().Register(&api.CatalogRegistration{Node: fleet, Address: "10.0.0.1"}, nil); err != nil {
			t.Fatal(err)
		}
		content := discoverytest.Content{}
		return discoverytest.Backend{
			Source:     newSource(t, consul.Config{Config: agent.Config{Address: a.Address()}}),
			PerService: true,
			Ignore:     []goleak.Option{goleak.IgnoreAnyFunction("github.com/isthmus-mesh/isthmus/discovery/consul/consultest.await")},
			Set: func(c discoverytest.Content) {
				var ops api.TxnOps // at once, so that nothing in between is to be seen
				for verb, of := range map[api.ServiceOp]discoverytest.Content{api.ServiceDelete: content, api.ServiceSet: c} {
					for _, svc := range of.Services() {
						for _, e := range svc.Endpoints {
							if verb == api.ServiceDelete && slices.Contains(c[svc.Name.Name()], e.ID) {
								continue
							}
							ops = append(ops, &api.TxnOp{Service: &api.ServiceTxnOp{Verb: verb, Node: fleet, Service: api.AgentService{
								ID: svc.Name.Name() + "/" + e.ID, Service: svc.Name.Name(), Address: e.Address.Addr().String(), Port: int(e.Address.Port()),
							}}})
						}
					}
				}
				commit(t, a, ops)
				content = c
			},
			Fail: func(on bool) {
				if on {
					a.Kill()
				} else {
					a.Restart()
				}
			},
		}
	})
}

// Real ACLs: a token that sees nothing, one that sees a part, one that sees all,
// and one that is taken away.
func TestRealConsulACLs(t *testing.T) {
	t.Parallel()
	const management = "3f5cbbd2-2d3d-4d0c-8f3c-2f6f3a9b8c11"
	a := realAgent(t, consultest.Options{Dev: true, ManagementToken: management})
	for _, name := range []string{"web", "db"} {
		a.Register(&api.AgentServiceRegistration{ID: name, Name: name, Address: "10.0.0.1", Port: 80})
	}
	file := filepath.Join(t.TempDir(), "token")
	use := func(token string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	part := a.Token("part", `node_prefix "" { policy = "read" } service "web" { policy = "read" }`)
	all := a.Token("all", `node_prefix "" { policy = "read" } service_prefix "" { policy = "read" }`)
	refused := func(r *recorder, why string) {
		t.Helper()
		for deadline := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
			if _, err := r.source.LastRead(); err != nil && strings.Contains(err.Error(), why) {
				return
			} else if time.Now().After(deadline) {
				t.Fatalf("no trouble with %q: %v", why, err)
			}
		}
	}
	use("")
	r := start(t, consul.Config{Config: agent.Config{Address: a.Address(), TokenFile: file}})
	refused(r, "ACL")
	use(part)
	time.Sleep(500 * time.Millisecond)
	refused(r, "ACL")
	if r.count() != 0 {
		t.Fatalf("published with less than the whole: %s", text(r.last()))
	}
	use(all)
	r.await(t, "both services", func(s *catalog.Snapshot) bool { return s.Len() == 2 })
	published := r.count()
	use("00000000-0000-0000-0000-000000000000") // revoked: Consul answers 403
	r.source.Reread()
	refused(r, "403")
	use("") // anonymous: Consul answers 200, and nothing
	r.source.Reread()
	refused(r, "ACL")
	if r.count() != published {
		t.Errorf("published %s", text(r.last()))
	}
	partial := start(t, consul.Config{Config: agent.Config{Address: a.Address(), TokenFile: file}, AcceptFiltered: true})
	use(part)
	partial.await(t, "what the token sees", func(s *catalog.Snapshot) bool { return s.Len() == 1 && len(endpoints(s, "web")) == 1 })
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	r.source.Reread()
	refused(r, "token file")
	if _, err := r.source.LastRead(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// Two datacenters side by side, each on an address of its own: neither shows in
// the other.
func TestRealConsulTwoDatacenters(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/net"); err != nil {
		t.Skip("127.0.0.2 is there on Linux only")
	}
	east := realAgent(t, consultest.Options{Dev: true, Datacenter: "east", Bind: "127.0.0.1"})
	west := realAgent(t, consultest.Options{Dev: true, Datacenter: "west", Bind: "127.0.0.2"})
	east.Register(&api.AgentServiceRegistration{ID: "a", Name: "a", Port: 1}) // no address: the node's
	west.Register(&api.AgentServiceRegistration{ID: "b", Name: "b", Port: 2})
	for want, dc := range map[string]*consultest.Agent{"{a=127.0.0.1:1}": east, "{b=127.0.0.2:2}": west} {
		r := start(t, consul.Config{Config: agent.Config{Address: dc.Address()}})
		r.await(t, want, func(s *catalog.Snapshot) bool { return discoverytest.ContentOf(s).String() == want })
	}
}

// A thousand services, then one flip of a check: one read, not a thousand.
func TestRealConsulReadsOnlyWhatChanged(t *testing.T) {
	const services = 1000
	a := realAgent(t, consultest.Options{Dev: true})
	var ops api.TxnOps
	if _, err := a.Client().Catalog().Register(&api.CatalogRegistration{Node: fleet, Address: "10.0.0.1"}, nil); err != nil {
		t.Fatal(err)
	}
	for i := range services {
		name := fmt.Sprintf("s-%04d", i)
		ops = append(ops,
			&api.TxnOp{Service: &api.ServiceTxnOp{Verb: api.ServiceSet, Node: fleet, Service: api.AgentService{ID: name, Service: name, Port: 1 + i}}},
			&api.TxnOp{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: api.HealthCheck{Node: fleet, CheckID: name, Name: name, ServiceID: name, Status: api.HealthPassing}}})
		if len(ops) == 64 { // Consul's bound
			commit(t, a, ops)
			ops = nil
		}
	}
	commit(t, a, ops)
	proxy := newProxy(t, a.Address())
	begin := time.Now()
	r := start(t, consul.Config{Config: agent.Config{Address: proxy.address}})
	r.await(t, "all services", func(s *catalog.Snapshot) bool { return s.Len() == services })
	t.Logf("first pass over %d services: %v, %d requests", services, time.Since(begin).Round(time.Millisecond), proxy.count())

	time.Sleep(time.Second)
	before, first := proxy.count(), r.last()
	begin = time.Now()
	if _, err := a.Client().Catalog().Register(&api.CatalogRegistration{
		Node: fleet, Address: "10.0.0.1", SkipNodeUpdate: true,
		Check: &api.AgentCheck{Node: fleet, CheckID: "s-0007", Name: "s-0007", ServiceID: "s-0007", Status: api.HealthCritical},
	}, nil); err != nil {
		t.Fatal(err)
	}
	s := r.await(t, "the flip", func(s *catalog.Snapshot) bool {
		e := endpoints(s, "s-0007")
		return len(e) == 1 && e[0].Health == catalog.Critical
	})
	took, asked := time.Since(begin), proxy.count()-before
	t.Logf("one flip of a check: %v, %d requests", took.Round(time.Millisecond), asked)
	if asked > 10 {
		t.Errorf("%d requests for one flip", asked)
	}
	if name := catalog.MustServiceName("s-0008"); first.Get(name) != s.Get(name) {
		t.Error("a service that did not change was copied")
	}
}
