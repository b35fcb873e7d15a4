package consul

import (
	"fmt"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/consul/agent"
)

const trustDomain = "11111111-2222-3333-4444-555555555555.consul"

func proxyEntry(change func(*api.ServiceEntry)) *api.ServiceEntry {
	return entry(func(e *api.ServiceEntry) {
		e.Service = &api.AgentService{
			Kind: api.ServiceKindConnectProxy, ID: "web-sidecar-proxy", Service: "web-sidecar-proxy", Port: 21000,
			Proxy: &api.AgentServiceConnectProxyConfig{DestinationServiceName: "web", DestinationServiceID: "web"},
		}
		change(e)
	})
}

func TestConvertSidecars(t *testing.T) {
	none := func(*api.ServiceEntry) {}
	const id = " mtls spiffe://" + trustDomain
	for name, c := range map[string]struct {
		connect  Connect
		instance func(*api.ServiceEntry)
		proxy    func(*api.ServiceEntry)
		noMesh   bool
		view     agent.View
		want     string // ":reason" where it is left out
	}{
		"auto, takes plaintext": {ConnectAuto, none, none, false, agent.View{}, "10.0.0.1:80"},
		"auto, on loopback": {
			ConnectAuto, func(e *api.ServiceEntry) { e.Service.Address = "127.0.0.1" }, none, false,
			agent.View{Datacenter: "dc1"},
			"10.0.0.1:21000" + id + "/ns/default/dc/dc1/svc/web",
		},
		"auto, on a socket": {
			ConnectAuto, func(e *api.ServiceEntry) { e.Service.Address, e.Service.Port = "", 0 }, none, false,
			agent.View{Datacenter: "dc1"},
			"10.0.0.1:21000" + id + "/ns/default/dc/dc1/svc/web",
		},
		"sidecar": {
			ConnectSidecar, func(e *api.ServiceEntry) { e.Node.Datacenter = "dc9" }, func(e *api.ServiceEntry) { e.Service.Address = "10.0.0.2" }, false,
			agent.View{Datacenter: "dc1"},
			"10.0.0.2:21000" + id + "/ns/default/dc/dc9/svc/web",
		},
		"sidecar of another instance":    {ConnectSidecar, none, func(e *api.ServiceEntry) { e.Service.Proxy.DestinationServiceID = "web-2" }, false, agent.View{}, "10.0.0.1:80"},
		"sidecar on another node":        {ConnectSidecar, none, func(e *api.ServiceEntry) { e.Node.Node = "n2" }, false, agent.View{}, "10.0.0.1:80"},
		"sidecar of another service":     {ConnectSidecar, none, func(e *api.ServiceEntry) { e.Service.Proxy.DestinationServiceName = "db" }, false, agent.View{}, "10.0.0.1:80"},
		"sidecar that names no instance": {ConnectSidecar, none, func(e *api.ServiceEntry) { e.Service.Proxy.DestinationServiceID = "" }, false, agent.View{Datacenter: "dc1"}, "10.0.0.1:21000" + id + "/ns/default/dc/dc1/svc/web"},
		"sidecar without a port":         {ConnectSidecar, none, func(e *api.ServiceEntry) { e.Service.Port = 0 }, false, agent.View{}, ":" + badPort},
		"plain":                          {ConnectPlain, func(e *api.ServiceEntry) { e.Service.Address = "127.0.0.1" }, none, false, agent.View{}, "127.0.0.1:80"},
		"says plain":                     {ConnectSidecar, func(e *api.ServiceEntry) { e.Service.Meta = map[string]string{connectMeta: "plain"} }, none, false, agent.View{}, "10.0.0.1:80"},
		"says nonsense":                  {ConnectAuto, func(e *api.ServiceEntry) { e.Service.Meta = map[string]string{connectMeta: "maybe"} }, none, false, agent.View{}, "10.0.0.1:80"},
		"mesh is off":                    {ConnectSidecar, none, none, true, agent.View{}, ":" + badConnect},
		"native": {
			ConnectAuto, func(e *api.ServiceEntry) { e.Service.Connect = &api.AgentServiceConnect{Native: true} }, none, false,
			agent.View{Datacenter: "dc1"},
			"10.0.0.1:80" + id + "/ns/default/dc/dc1/svc/web",
		},
		"tenancy": {
			ConnectSidecar, none, none, false,
			agent.View{Datacenter: "dc1", Partition: "eu", Namespace: "team"},
			"10.0.0.1:21000" + id + "/ap/eu/ns/team/dc/dc1/svc/web",
		},
		"tenancy as the instance says": {
			ConnectSidecar, func(e *api.ServiceEntry) { e.Service.Partition, e.Service.Namespace = "default", "own" }, none, false,
			agent.View{Datacenter: "dc1", Namespace: "team"},
			"10.0.0.1:21000" + id + "/ns/own/dc/dc1/svc/web",
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Connect: c.connect}.WithDefaults()
			a := around{view: view{View: c.view}, mesh: mesh{trustDomain}}
			if c.noMesh {
				a.mesh = mesh{}
			}
			a.sidecars = cfg.sidecarsOf([]*api.ServiceEntry{proxyEntry(c.proxy)})["web"]
			s, bad := cfg.convert("web", []*api.ServiceEntry{entry(c.instance)}, a)
			got := ""
			if s != nil {
				e := s.Endpoints[0]
				got = e.Address.String()
				if e.Transport != catalog.Plain {
					got += fmt.Sprintf(" %s %s", e.Transport, e.ServerID)
				}
			}
			if len(bad) > 0 {
				got += ":" + bad[0].reason
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// A sidecar stands before one port of an instance with several.
func TestConvertSidecarOfOnePort(t *testing.T) {
	e := entry(func(e *api.ServiceEntry) {
		e.Service.Ports = []api.ServicePort{{Name: "http", Port: 80, Default: true}, {Name: "admin", Port: 81}}
	})
	for to, want := range map[int]string{0: "http", 80: "http", 81: "admin", 99: ""} {
		cfg := Config{Connect: ConnectSidecar}.WithDefaults()
		a := around{mesh: mesh{trustDomain}, view: view{View: agent.View{Datacenter: "dc1"}}}
		a.sidecars = cfg.sidecarsOf([]*api.ServiceEntry{proxyEntry(func(e *api.ServiceEntry) { e.Service.Proxy.LocalServicePort = to })})["web"]
		s, bad := cfg.convert("web", []*api.ServiceEntry{e}, a)
		if len(bad) > 0 || len(s.Endpoints) != 2 {
			t.Fatalf("%v, %v", s, bad)
		}
		got := ""
		for _, e := range s.Endpoints {
			if e.Transport == catalog.MTLS {
				got += e.Port
			}
		}
		if got != want {
			t.Errorf("to %d: %q goes through the sidecar, want %q", to, got, want)
		}
	}
}

// What some cluster has made of its imports is no workload of this one.
func TestConvertLeavesImportsOut(t *testing.T) {
	marked := entry(func(e *api.ServiceEntry) { e.Service.Meta = map[string]string{agent.OwnerMeta: "west"} })
	cfg := Config{}.WithDefaults()
	if s, bad := cfg.convert("web", []*api.ServiceEntry{marked}, around{}); s != nil || len(bad) != 0 {
		t.Errorf("got %+v, %v", s, bad)
	}
	own := entry(func(e *api.ServiceEntry) { e.Service.ID = "own" })
	if s, _ := cfg.convert("web", []*api.ServiceEntry{marked, own}, around{}); s == nil || len(s.Endpoints) != 1 || s.Endpoints[0].ID != "n1/own" {
		t.Errorf("got %+v", s)
	}
}

func TestWorse(t *testing.T) {
	for _, c := range []struct{ a, b, want catalog.Health }{
		{catalog.Passing, catalog.Passing, catalog.Passing},
		{catalog.Passing, catalog.Critical, catalog.Critical},
		{catalog.Unknown, catalog.Passing, catalog.Passing},
		{catalog.Warning, catalog.Unknown, catalog.Warning},
		{catalog.Maintenance, catalog.Critical, catalog.Maintenance},
		{catalog.Unknown, catalog.Unknown, catalog.Unknown},
	} {
		if got := worse(c.a, c.b); got != c.want {
			t.Errorf("%s, %s: %s", c.a, c.b, got)
		}
		if got := worse(c.b, c.a); got != c.want {
			t.Errorf("%s, %s: %s", c.b, c.a, got)
		}
	}
}
