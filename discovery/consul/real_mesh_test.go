package consul_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/consul"
	"github.com/isthmus-mesh/isthmus/discovery/consul/agent"
	"github.com/isthmus-mesh/isthmus/discovery/consul/consultest"
)

// Sidecars, Connect-native services and what they need, as real Consul has them.
func TestRealConsulMesh(t *testing.T) {
	t.Parallel()
	a := realAgent(t, consultest.Options{Dev: true})
	auto := start(t, consul.Config{Config: agent.Config{Address: a.Address()}})
	sidecar := start(t, consul.Config{Config: agent.Config{Address: a.Address()}, Connect: consul.ConnectSidecar})
	plain := start(t, consul.Config{Config: agent.Config{Address: a.Address()}, Connect: consul.ConnectPlain})
	withSidecar := func(id, name, address string, port, sidecarPort int, change func(*api.AgentServiceRegistration)) {
		s := &api.AgentServiceRegistration{
			ID: id, Name: name, Address: address, Port: port,
			Check:   &api.AgentServiceCheck{CheckID: id + "-ttl", TTL: "1h", Status: api.HealthPassing},
			Connect: &api.AgentServiceConnect{SidecarService: &api.AgentServiceRegistration{Address: "10.0.0.1", Port: sidecarPort, Checks: api.AgentServiceChecks{{CheckID: id + "-sidecar", TTL: "1h", Status: api.HealthPassing}}}},
		}
		change(s)
		a.Register(s)
	}
	none := func(*api.AgentServiceRegistration) {}
	withSidecar("web-1", "web", "10.0.0.1", 80, 21000, none)
	withSidecar("hidden-1", "hidden", "127.0.0.1", 81, 21001, none)
	withSidecar("tproxy-1", "tproxy", "10.0.0.1", 82, 21002, func(s *api.AgentServiceRegistration) {
		s.Connect.SidecarService.Proxy = &api.AgentServiceConnectProxyConfig{Mode: api.ProxyModeTransparent}
	})
	withSidecar("says-1", "says", "10.0.0.1", 83, 21003, func(s *api.AgentServiceRegistration) {
		s.Meta = map[string]string{"isthmus-connect": "sidecar"}
	})
	a.Register(&api.AgentServiceRegistration{ID: "native-1", Name: "native", Address: "10.0.0.1", Port: 84, Connect: &api.AgentServiceConnect{Native: true}})

	roots, _, err := a.Client().Connect().CARoots(nil)
	if err != nil {
		t.Fatal(err)
	}
	id := func(name string) string {
		return "mtls spiffe://" + roots.TrustDomain + "/ns/default/dc/dc1/svc/" + name
	}
	for _, c := range []struct {
		of   *recorder
		name string
		want map[string]string
	}{
		{auto, "auto", map[string]string{
			"web": "10.0.0.1:80 passing", "hidden": "10.0.0.1:21001 passing " + id("hidden"), "tproxy": "10.0.0.1:21002 passing " + id("tproxy"),
			"says": "10.0.0.1:21003 passing " + id("says"), "native": "10.0.0.1:84 passing " + id("native"),
		}},
		{sidecar, "sidecar", map[string]string{
			"web": "10.0.0.1:21000 passing " + id("web"), "hidden": "10.0.0.1:21001 passing " + id("hidden"), "tproxy": "10.0.0.1:21002 passing " + id("tproxy"),
			"says": "10.0.0.1:21003 passing " + id("says"), "native": "10.0.0.1:84 passing " + id("native"),
		}},
		{plain, "plain", map[string]string{
			"web": "10.0.0.1:80 passing", "hidden": "127.0.0.1:81 passing", "tproxy": "10.0.0.1:82 passing",
			"says": "10.0.0.1:21003 passing " + id("says"), "native": "10.0.0.1:84 passing",
		}},
	} {
		c.of.await(t, c.name, func(s *catalog.Snapshot) bool { return fmt.Sprint(dialed(s)) == fmt.Sprint(c.want) })
	}

	// Who is called through the sidecar is as well as the sidecar is.
	a.SetTTL("web-1-sidecar", api.HealthCritical)
	sidecar.await(t, "the sidecar is critical", func(s *catalog.Snapshot) bool { return strings.Contains(dialed(s)["web"], "critical") })
	if got := dialed(auto.last())["web"]; got != "10.0.0.1:80 passing" {
		t.Errorf("beside its sidecar: %s", got)
	}
	a.SetTTL("web-1-sidecar", api.HealthPassing)
	a.SetTTL("web-1-ttl", api.HealthWarning)
	sidecar.await(t, "the instance is in warning", func(s *catalog.Snapshot) bool { return strings.Contains(dialed(s)["web"], "warning") })
	// The sidecar goes, and comes elsewhere.
	a.Deregister("web-1-sidecar-proxy")
	sidecar.await(t, "without its sidecar", func(s *catalog.Snapshot) bool { return dialed(s)["web"] == "10.0.0.1:80 warning" })
	withSidecar("web-1", "web", "10.0.0.1", 80, 21100, none)
	a.SetTTL("web-1-ttl", api.HealthPassing)
	sidecar.await(t, "with another", func(s *catalog.Snapshot) bool { return dialed(s)["web"] == "10.0.0.1:21100 passing "+id("web") })
}

// dialed says of each service how its only endpoint is dialed.
func dialed(s *catalog.Snapshot) map[string]string {
	out := map[string]string{}
	for svc := range s.All() {
		for _, e := range svc.Endpoints {
			out[svc.Name.Name()] += strings.TrimSpace(fmt.Sprintf("%s %s %s %s", e.Address, e.Health, e.Transport, e.ServerID))
		}
	}
	return out
}

// Maintenance of an instance and of a whole node.
func TestRealConsulMaintenance(t *testing.T) {
	t.Parallel()
	a := realAgent(t, consultest.Options{Dev: true})
	for _, id := range []string{"web-1", "web-2"} {
		a.Register(&api.AgentServiceRegistration{ID: id, Name: "web", Address: "10.0.0.1", Port: 80})
	}
	r := start(t, consul.Config{Config: agent.Config{Address: a.Address()}})
	health := func(s *catalog.Snapshot) (out []catalog.Health) {
		for _, e := range endpoints(s, "web") {
			out = append(out, e.Health)
		}
		return out
	}
	want := func(what string, want ...catalog.Health) {
		t.Helper()
		r.await(t, what, func(s *catalog.Snapshot) bool { return fmt.Sprint(health(s)) == fmt.Sprint(want) })
	}
	node := a.Client().Agent()
	want("without checks", catalog.Passing, catalog.Passing) // the node's own check passes
	if err := node.EnableServiceMaintenance("web-1", "test"); err != nil {
		t.Fatal(err)
	}
	want("one instance in maintenance", catalog.Maintenance, catalog.Passing)
	if err := node.EnableNodeMaintenance("test"); err != nil {
		t.Fatal(err)
	}
	want("the node in maintenance", catalog.Maintenance, catalog.Maintenance)
	if err := node.DisableServiceMaintenance("web-1"); err != nil {
		t.Fatal(err)
	}
	if err := node.DisableNodeMaintenance(); err != nil {
		t.Fatal(err)
	}
	want("over", catalog.Passing, catalog.Passing)
}

// Community Edition refuses tenancy; nothing is published, and the error says why.
func TestRealConsulRefusesTenancyOfTheEnterprise(t *testing.T) {
	t.Parallel()
	a := realAgent(t, consultest.Options{Dev: true})
	a.Register(&api.AgentServiceRegistration{ID: "web-1", Name: "web", Address: "10.0.0.1", Port: 80})
	for _, c := range []consul.Config{{Partition: "eu"}, {Namespaces: []consul.Namespace{{Name: "team"}}}} {
		c.Config = agent.Config{Address: a.Address()}
		r := start(t, c)
		for deadline := 0; ; deadline++ {
			if _, err := r.source.LastRead(); err != nil {
				if !strings.Contains(err.Error(), "400") || !strings.Contains(err.Error(), "Enterprise") {
					t.Errorf("%+v: %v", c, err)
				}
				t.Logf("real Consul CE says: %.200s", strings.ReplaceAll(err.Error(), "\n", " | "))
				break
			}
			if deadline > 1000 {
				t.Fatal("no error")
			}
			pause()
		}
		if r.count() != 0 {
			t.Errorf("%+v: published %s", c, text(r.last()))
		}
	}
}
