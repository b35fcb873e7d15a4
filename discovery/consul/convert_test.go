package consul

import (
	"maps"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

func entry(change func(*api.ServiceEntry)) *api.ServiceEntry {
	e := &api.ServiceEntry{
		Node:    &api.Node{Node: "n1", Address: "10.0.0.1"},
		Service: &api.AgentService{ID: "web", Service: "web", Port: 80},
	}
	change(e)
	return e
}

func TestConvertOneInstance(t *testing.T) {
	home := catalog.Locality{Cloud: "aws", Region: "us-east-1"}
	cfg := Config{AddressTag: "wan", LabelMeta: []string{"version"}}.WithDefaults()
	for name, c := range map[string]struct {
		change func(*api.ServiceEntry)
		// want is address, weight, health, locality; "" means left out
		want, reason string
	}{
		"plain":           {func(*api.ServiceEntry) {}, "10.0.0.1:80 1 unknown aws/us-east-1", ""},
		"service address": {func(e *api.ServiceEntry) { e.Service.Address = "10.0.0.2" }, "10.0.0.2:80 1 unknown aws/us-east-1", ""},
		"tagged with its port": {func(e *api.ServiceEntry) {
			e.Service.TaggedAddresses = map[string]api.ServiceAddress{"wan": {Address: "1.2.3.4", Port: 8080}}
		}, "1.2.3.4:8080 1 unknown aws/us-east-1", ""},
		"tagged node": {func(e *api.ServiceEntry) {
			e.Node.TaggedAddresses = map[string]string{"wan": "1.2.3.5"}
		}, "1.2.3.5:80 1 unknown aws/us-east-1", ""},
		"mapped ipv4":      {func(e *api.ServiceEntry) { e.Service.Address = "::ffff:10.0.0.3" }, "10.0.0.3:80 1 unknown aws/us-east-1", ""},
		"weights too high": {func(e *api.ServiceEntry) { e.Service.Weights.Passing = 1 << 20 }, "10.0.0.1:80 65535 unknown aws/us-east-1", ""},
		"locality of the node": {func(e *api.ServiceEntry) {
			e.Node.Locality = &api.Locality{Region: "eu-west-1", Zone: "z1"}
		}, "10.0.0.1:80 1 unknown aws/eu-west-1/z1", ""},
		"bad locality": {func(e *api.ServiceEntry) {
			e.Node.Locality = &api.Locality{Region: "EU West", Zone: "z1"}
		}, "10.0.0.1:80 1 unknown aws/us-east-1", ""},
		"host name":   {func(e *api.ServiceEntry) { e.Service.Address = "db.internal" }, "", badAddress},
		"no port":     {func(e *api.ServiceEntry) { e.Service.Port = 0 }, "", badPort},
		"sidecar":     {func(e *api.ServiceEntry) { e.Service.Kind = api.ServiceKindConnectProxy }, "", ""},
		"no instance": {func(e *api.ServiceEntry) { e.Service = nil }, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, bad := cfg.convert("web", []*api.ServiceEntry{entry(c.change)}, around{home: home})
			got, reason := "", ""
			if s != nil {
				e := s.Endpoints[0]
				got = e.Address.String() + " " + strconv.Itoa(int(e.Weight)) + " " + string(e.Health) + " " + e.Locality.String()
			}
			if len(bad) > 0 {
				reason = bad[0].reason
			}
			if got != c.want || reason != c.reason {
				t.Errorf("got %q, left out for %q; want %q, %q", got, reason, c.want, c.reason)
			}
		})
	}
}

func TestConvertDoesNotDependOnTheOrder(t *testing.T) {
	var entries []*api.ServiceEntry
	for _, id := range []string{"a", "b", "c", "d"} {
		entries = append(entries, entry(func(e *api.ServiceEntry) {
			e.Service.ID = id
			e.Service.Meta = map[string]string{"protocol": map[bool]string{true: "http", false: "grpc"}[id < "c"]}
		}))
	}
	cfg := Config{}.WithDefaults()
	first, _ := cfg.convert("web", entries, around{})
	for range 50 {
		rand.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
		again, _ := cfg.convert("web", entries, around{})
		if !first.Equal(again) {
			t.Fatalf("%v and %v", first, again)
		}
	}
	if first.Ports[0].Protocol != catalog.HTTP {
		t.Errorf("protocol %s, want the first instance's", first.Ports[0].Protocol)
	}
}

func TestConvertRefusesNamesThatAreNoLabels(t *testing.T) {
	for _, name := range []string{"Web", "a_b", "federation", "", "a.b"} {
		if s, bad := (Config{}.WithDefaults()).convert(name, []*api.ServiceEntry{entry(func(*api.ServiceEntry) {})}, around{}); s != nil || len(bad) != 1 {
			t.Errorf("%q: got %v, %v", name, s, bad)
		}
	}
}

func TestConvertLabels(t *testing.T) {
	e := entry(func(e *api.ServiceEntry) {
		e.Service.Tags = []string{"version=v1", "canary", "a=b=c", "bad,tag"}
		e.Service.Meta = map[string]string{"version": "v2", "owner": "shop", "list": "a,b"}
	})
	for name, c := range map[string]struct {
		cfg  Config
		want map[string]string
		bad  int
	}{
		"none":  {Config{}, nil, 0},
		"some":  {Config{LabelMeta: []string{"version"}}, map[string]string{"version": "v2"}, 0},
		"all":   {Config{LabelMeta: []string{"*"}}, map[string]string{"version": "v2", "owner": "shop", "a": "b=c"}, 1},
		"tags":  {Config{LabelTags: true}, map[string]string{"tag:canary": "true"}, 3},
		"mixed": {Config{LabelTags: true, LabelMeta: []string{"a", "version"}}, map[string]string{"tag:canary": "true", "a": "b=c", "version": "v2"}, 1},
	} {
		s, bad := c.cfg.WithDefaults().convert("web", []*api.ServiceEntry{e}, around{})
		if s == nil || !maps.Equal(s.Endpoints[0].Labels, c.want) || len(bad) != c.bad {
			t.Errorf("%s: got %v, left out %v", name, s, bad)
		}
	}
	many := entry(func(e *api.ServiceEntry) {
		e.Service.Meta = map[string]string{}
		for i := range 100 {
			e.Service.Meta[strconv.Itoa(i)] = "x"
		}
	})
	s, bad := Config{LabelMeta: []string{"*"}}.WithDefaults().convert("web", []*api.ServiceEntry{many}, around{})
	if len(s.Endpoints[0].Labels) != catalog.MaxLabels || len(bad) != 100-catalog.MaxLabels {
		t.Errorf("%d labels, %d left out", len(s.Endpoints[0].Labels), len(bad))
	}
}

func TestConvertWeightsFollowTheStatus(t *testing.T) {
	check := func(id, status string) *api.HealthCheck { return &api.HealthCheck{CheckID: id, Status: status} }
	for name, c := range map[string]struct {
		checks  api.HealthChecks
		weights api.AgentWeights
		health  catalog.Health
		weight  uint32
	}{
		"passing":           {api.HealthChecks{check("a", "passing")}, api.AgentWeights{Passing: 5, Warning: 2}, catalog.Passing, 5},
		"warning":           {api.HealthChecks{check("a", "passing"), check("b", "warning")}, api.AgentWeights{Passing: 5, Warning: 2}, catalog.Warning, 2},
		"critical":          {api.HealthChecks{check("a", "critical"), check("b", "warning")}, api.AgentWeights{Passing: 5, Warning: 2}, catalog.Critical, 5},
		"maintenance":       {api.HealthChecks{check("_node_maintenance", "critical")}, api.AgentWeights{Passing: 5}, catalog.Maintenance, 5},
		"no such status":    {api.HealthChecks{check("a", "fine")}, api.AgentWeights{Passing: 5}, catalog.Critical, 5},
		"nothing on warn":   {api.HealthChecks{check("a", "warning")}, api.AgentWeights{Passing: 5}, catalog.Maintenance, 1},
		"nothing ever":      {nil, api.AgentWeights{Warning: 1}, catalog.Maintenance, 1},
		"no weights at all": {nil, api.AgentWeights{}, catalog.Unknown, 1},
	} {
		e := entry(func(e *api.ServiceEntry) { e.Checks, e.Service.Weights = c.checks, c.weights })
		s, _ := Config{}.WithDefaults().convert("web", []*api.ServiceEntry{e}, around{})
		if got := s.Endpoints[0]; got.Health != c.health || got.Weight != c.weight {
			t.Errorf("%s: got %s %d", name, got.Health, got.Weight)
		}
	}
}

func TestConvertPorts(t *testing.T) {
	multi := entry(func(e *api.ServiceEntry) {
		e.Service.Ports = []api.ServicePort{{Name: "http", Port: 80, Default: true}, {Name: "admin", Port: 81}}
	})
	s, bad := Config{}.WithDefaults().convert("web", []*api.ServiceEntry{multi}, around{})
	if len(bad) != 0 || len(s.Ports) != 2 || len(s.Endpoints) != 2 || s.Endpoints[0].ID == s.Endpoints[1].ID {
		t.Errorf("got %+v, %v", s, bad)
	}
	multi.Service.Ports[1].Name = "No Label"
	if s, bad := (Config{}).WithDefaults().convert("web", []*api.ServiceEntry{multi}, around{}); s != nil || len(bad) != 1 || bad[0].reason != badPort {
		t.Errorf("got %+v, %v", s, bad)
	}
	// The same instance twice breaks the catalog's rules, not the source.
	one := entry(func(*api.ServiceEntry) {})
	if s, bad := (Config{}).WithDefaults().convert("web", []*api.ServiceEntry{one, one, nil}, around{}); s != nil || len(bad) != 1 || bad[0].reason != badService {
		t.Errorf("got %+v, %v", s, bad)
	}
}
