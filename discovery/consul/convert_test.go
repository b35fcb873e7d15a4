package consul

import (
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
			s, bad := cfg.convert("web", []*api.ServiceEntry{entry(c.change)}, home)
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
	first, _ := cfg.convert("web", entries, catalog.Locality{})
	for range 50 {
		rand.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
		again, _ := cfg.convert("web", entries, catalog.Locality{})
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
		if s, bad := (Config{}.WithDefaults()).convert(name, []*api.ServiceEntry{entry(func(*api.ServiceEntry) {})}, catalog.Locality{}); s != nil || len(bad) != 1 {
			t.Errorf("%q: got %v, %v", name, s, bad)
		}
	}
}
