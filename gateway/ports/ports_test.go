package ports_test

import (
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/ports"
)

func service(name string, of ...catalog.Port) route.Service {
	return route.Service{Name: catalog.MustServiceName(name), Ports: of}
}

func port(name string, protocol catalog.Protocol) catalog.Port {
	return catalog.Port{Name: name, Protocol: protocol}
}

func TestNumbers(t *testing.T) {
	rules := []ports.Rule{
		{Number: 8080, Port: "http"}, {Number: 15432, Port: "postgres", Services: []policy.ServicePattern{"db.shop"}}, {Number: 7000, Services: []policy.ServicePattern{"*.plain"}},
	}
	n := func(number uint16, port string) ports.Number { return ports.Number{Number: number, Port: port} }
	u := func(number uint16, port string) ports.Number {
		return ports.Number{Number: number, Port: port, UDP: true}
	}
	for _, c := range []struct {
		service route.Service
		want    []ports.Number
	}{
		{service("web.shop", port("http", catalog.HTTP), port("stats", catalog.HTTP)), []ports.Number{n(8080, "http")}},
		{service("db.shop", port("postgres", catalog.TCP)), []ports.Number{n(15432, "postgres")}},
		{service("db.other", port("postgres", catalog.TCP)), []ports.Number{n(5432, "postgres")}},
		{service("x.plain", port("anything", catalog.TCP)), []ports.Number{n(7000, "anything")}},
		{service("x.plain", port("default", catalog.TCP), port("http", catalog.HTTP)), []ports.Number{n(8080, "http"), n(7000, "default")}},
		{service("api.shop", port("calls", catalog.GRPC)), []ports.Number{n(80, "calls")}},
		{service("api.shop", port("calls", catalog.GRPC), port("9200", catalog.TCP)), []ports.Number{n(9200, "9200")}},
		{service("api.shop", port("web", catalog.HTTP), port("default", catalog.HTTP)), []ports.Number{n(80, "web")}}, // each number once
		{service("tls.shop", port("any", catalog.TLS)), []ports.Number{n(443, "any")}},
		{service("udp.shop", port("default", catalog.UDP)), nil},
		{service("dns.shop", port("dns", catalog.UDP), port("53", catalog.TCP)), []ports.Number{u(53, "dns"), n(53, "53")}}, // each transport its own
		{service("both.shop", port("http", catalog.UDP), port("ssh", catalog.UDP)), []ports.Number{u(8080, "http")}},
		{service("bytes.shop", port("default", catalog.TCP)), nil},
		{service("odd.shop", port("0", catalog.TCP), port("70000", catalog.TCP)), nil},
	} {
		if got := ports.Of(rules, &c.service); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.service.Name, got, c.want)
		}
	}
}

func TestFind(t *testing.T) {
	table := &route.Table{Services: []route.Service{
		service("bytes.shop", port("default", catalog.TCP), port("queries", catalog.UDP)),
		service("dns.shop", port("queries", catalog.UDP)),
		service("web.shop", port("http", catalog.HTTP), port("stats", catalog.HTTP)),
	}}
	for _, c := range []struct {
		service string
		number  uint16
		port    string
		ok      bool
	}{
		{"bytes.shop", 1234, "default", true},
		{"web.shop", 80, "http", true},
		{"web.shop", 9090, "", false},
		{"dns.shop", 53, "", false},
		{"nobody.shop", 80, "", true},
	} {
		if p, ok := ports.Find(table, nil, catalog.MustServiceName(c.service), c.number); p != c.port || ok != c.ok {
			t.Errorf("%s:%d: %q, %t", c.service, c.number, p, ok)
		}
	}
}
