package catalog_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

func service(name string, endpoints ...catalog.Endpoint) *catalog.Service {
	return &catalog.Service{
		Name:      catalog.MustServiceName(name),
		Ports:     []catalog.Port{{Name: "http", Protocol: catalog.HTTP}},
		Endpoints: endpoints,
	}
}

func endpoint(id, address string) catalog.Endpoint {
	return catalog.Endpoint{
		ID: id, Port: "http", Address: netip.MustParseAddrPort(address), Weight: 1, Health: catalog.Passing,
		Locality: catalog.Locality{Cloud: "aws", Region: "us-east-1", Zone: "use1-az1"},
	}
}

func snapshot(t testing.TB, services ...*catalog.Service) *catalog.Snapshot {
	t.Helper()
	s, err := catalog.NewSnapshot("test", services)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func names(s *catalog.Snapshot) []string {
	var out []string
	for svc := range s.All() {
		out = append(out, svc.Name.String())
	}
	return out
}

func TestSnapshotOrdersAndCounts(t *testing.T) {
	s := snapshot(t,
		service("web.shop", endpoint("b", "10.0.0.2:80"), endpoint("a", "10.0.0.1:80")),
		service("billing.default"),
		service("api.shop", endpoint("c", "10.0.0.3:80")),
	)
	if d := cmp.Diff([]string{"billing.default", "api.shop", "web.shop"}, names(s)); d != "" {
		t.Error(d)
	}
	if s.Len() != 3 || s.EndpointCount() != 3 || s.Source() != "test" {
		t.Errorf("got %d services, %d endpoints of %q", s.Len(), s.EndpointCount(), s.Source())
	}
	web := s.Get(catalog.MustServiceName("web.shop"))
	if web == nil || web.Endpoints[0].ID != "a" {
		t.Errorf("endpoints are not in order: %+v", web)
	}
	if s.Get(catalog.MustServiceName("nobody")) != nil {
		t.Error("found a service that is not there")
	}
}

func TestNilSnapshotIsEmpty(t *testing.T) {
	var s *catalog.Snapshot
	if s.Len() != 0 || s.EndpointCount() != 0 || s.Source() != "" || s.Get(catalog.MustServiceName("a")) != nil || names(s) != nil {
		t.Error("a nil snapshot is not empty")
	}
}

// Every rule, one broken value each; the error names field and rule.
func TestNewSnapshotRefuses(t *testing.T) {
	long := strings.Repeat("x", catalog.MaxLabelValueLen+1)
	edit := func(f func(*catalog.Service)) []*catalog.Service {
		s := service("web", endpoint("a", "10.0.0.1:80"), endpoint("b", "10.0.0.2:80"))
		f(s)
		return []*catalog.Service{s}
	}
	ep := func(f func(*catalog.Endpoint)) []*catalog.Service {
		return edit(func(s *catalog.Service) { f(&s.Endpoints[1]) })
	}
	tooMany := make(map[string]string)
	for i := range catalog.MaxLabels + 1 {
		tooMany[fmt.Sprint("k", i)] = "v"
	}
	for _, c := range []struct {
		field    string
		services []*catalog.Service
	}{
		{"services[0]", []*catalog.Service{nil}},
		{"services[web.default]", []*catalog.Service{service("web"), service("web")}},
		{"services[].name", edit(func(s *catalog.Service) { s.Name = catalog.ServiceName{} })},
		{"services[federation.aws].name", edit(func(s *catalog.Service) { s.Name = catalog.FederationService("aws") })},
		{"ports", edit(func(s *catalog.Service) { s.Ports = nil })},
		{"ports", edit(func(s *catalog.Service) { s.Ports = make([]catalog.Port, catalog.MaxPorts+1) })},
		{"ports[0].name", edit(func(s *catalog.Service) { s.Ports[0].Name = "HTTP" })},
		{"ports[0].protocol", edit(func(s *catalog.Service) { s.Ports[0].Protocol = "gopher" })},
		{"ports[1].name", edit(func(s *catalog.Service) { s.Ports = append(s.Ports, s.Ports[0]) })},
		{"meta.k", edit(func(s *catalog.Service) { s.Meta = map[string]string{"k": long} })},
		{"meta", edit(func(s *catalog.Service) { s.Meta = map[string]string{"a b": "v"} })},
		{"endpoints[1].id", ep(func(e *catalog.Endpoint) { e.ID = "" })},
		{"endpoints[1].id", ep(func(e *catalog.Endpoint) { e.ID = "a" })},
		{"endpoints[1].id", ep(func(e *catalog.Endpoint) { e.ID = "a\nb" })},
		{"endpoints[1].id", ep(func(e *catalog.Endpoint) { e.ID = strings.Repeat("x", catalog.MaxIDLen+1) })},
		{"endpoints[1].port", ep(func(e *catalog.Endpoint) { e.Port = "grpc" })},
		{"endpoints[1].address", ep(func(e *catalog.Endpoint) { e.Address = netip.AddrPort{} })},
		{"endpoints[1].address", ep(func(e *catalog.Endpoint) { e.Address = netip.MustParseAddrPort("10.0.0.1:0") })},
		{"endpoints[1].address", ep(func(e *catalog.Endpoint) { e.Address = netip.MustParseAddrPort("[fe80::1%eth0]:1") })},
		{"endpoints[1].locality", ep(func(e *catalog.Endpoint) { e.Locality = catalog.Locality{Zone: "a"} })},
		{"endpoints[1].weight", ep(func(e *catalog.Endpoint) { e.Weight = 0 })},
		{"endpoints[1].weight", ep(func(e *catalog.Endpoint) { e.Weight = catalog.MaxWeight + 1 })},
		{"endpoints[1].health", ep(func(e *catalog.Endpoint) { e.Health = "" })},
		{"endpoints[1].labels", ep(func(e *catalog.Endpoint) { e.Labels = tooMany })},
		{"endpoints[1].labels", ep(func(e *catalog.Endpoint) { e.Labels = map[string]string{"a=b": "v"} })},
		{"endpoints[1].labels.k", ep(func(e *catalog.Endpoint) { e.Labels = map[string]string{"k": "a,b"} })},
		{"endpoints[1].transport", ep(func(e *catalog.Endpoint) { e.Transport = "ssl" })},
		{"endpoints[1].server_id", ep(func(e *catalog.Endpoint) { e.Transport = catalog.MTLS })},
		{"endpoints[1].server_id", ep(func(e *catalog.Endpoint) { e.ServerID = "spiffe://td.test/svc/web" })},
		{"endpoints[1].server_id", ep(func(e *catalog.Endpoint) { e.Transport, e.ServerID = catalog.MTLS, "spiffe://td.test" })},
		{"endpoints[1].server_id", ep(func(e *catalog.Endpoint) { e.Transport, e.ServerID = catalog.MTLS, "https://td.test/svc/web" })},
		{"endpoints[1].server_id", ep(func(e *catalog.Endpoint) {
			e.Transport, e.ServerID = catalog.MTLS, "spiffe://td.test/"+strings.Repeat("x", catalog.MaxSPIFFEIDLen)
		})},
		{"endpoints[1].source", ep(func(e *catalog.Endpoint) { e.Source = "Not A Label" })},
	} {
		_, err := catalog.NewSnapshot("test", c.services)
		var fe *catalog.FieldError
		if !errors.As(err, &fe) {
			t.Errorf("%s: want a FieldError, got %v", c.field, err)
			continue
		}
		if !strings.HasSuffix(fe.Field, c.field) || fe.Rule == "" {
			t.Errorf("want field %s with a rule, got %v", c.field, fe)
		}
	}
	if _, err := catalog.NewSnapshot("My Source", nil); err == nil {
		t.Error("a source's name that is no label was accepted")
	}
}

func TestNewSnapshotReportsAllProblemsButNotAMillion(t *testing.T) {
	bad := service("web")
	for i := range 5000 {
		bad.Endpoints = append(bad.Endpoints, catalog.Endpoint{ID: fmt.Sprint(i)})
	}
	_, err := catalog.NewSnapshot("test", []*catalog.Service{bad, service("federation.x")})
	if n := strings.Count(err.Error(), "\n"); n < 50 || n > 200 {
		t.Errorf("%d lines of problems", n)
	}
	if !strings.Contains(err.Error(), "more problems") {
		t.Error("the rest is not mentioned")
	}
	two := []*catalog.Service{service("a", catalog.Endpoint{}), service("b", catalog.Endpoint{})}
	_, err = catalog.NewSnapshot("test", two)
	for _, want := range []string{"services[a.default].endpoints[0].weight", "services[b.default].endpoints[0].health"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %v", want, err)
		}
	}
}

func TestMaximalValuesFit(t *testing.T) {
	labels := make(map[string]string)
	for i := range catalog.MaxLabels {
		labels[fmt.Sprintf("%0*d", catalog.MaxLabelKeyLen, i)] = strings.Repeat("v", catalog.MaxLabelValueLen)
	}
	s := service("web", endpoint(strings.Repeat("i", catalog.MaxIDLen), "10.0.0.1:65535"))
	s.Endpoints[0].Labels, s.Meta, s.Endpoints[0].Weight = labels, labels, catalog.MaxWeight
	for i := range catalog.MaxPorts - 1 {
		s.Ports = append(s.Ports, catalog.Port{Name: fmt.Sprint("p", i), Protocol: catalog.UDP})
	}
	snapshot(t, s)
}

func TestWithSharesWhatDidNotChange(t *testing.T) {
	old := snapshot(t, service("a", endpoint("1", "10.0.0.1:80")), service("b"), service("c"))
	next, err := old.With([]*catalog.Service{service("b", endpoint("2", "10.0.0.2:80")), service("d")},
		[]catalog.ServiceName{catalog.MustServiceName("c"), catalog.MustServiceName("absent")})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"a.default", "b.default", "d.default"}, names(next)); d != "" {
		t.Error(d)
	}
	a := catalog.MustServiceName("a")
	if old.Get(a) != next.Get(a) {
		t.Error("an unchanged service was copied")
	}
	if old.EndpointCount() != 1 || next.EndpointCount() != 2 || old.Len() != 3 {
		t.Errorf("%d and %d endpoints", old.EndpointCount(), next.EndpointCount())
	}
	if _, err := old.With([]*catalog.Service{service("a")}, []catalog.ServiceName{a}); err == nil {
		t.Error("a service was replaced and removed at once")
	}
	if _, err := old.With([]*catalog.Service{service("a", catalog.Endpoint{})}, nil); err == nil {
		t.Error("an invalid service was taken")
	}
}

func TestJSONIsCanonicalAndRoundTrips(t *testing.T) {
	one := endpoint("a", "10.0.0.1:80")
	one.Labels = map[string]string{"version": "v2", "az": "1"}
	two := endpoint("b", "[2001:db8::1]:80")
	two.Quarantined = true
	s := snapshot(t, service("web", one, two), service("api"))
	again := snapshot(t, service("api"), service("web", two, one))
	a, b := marshal(t, s), marshal(t, again)
	if a != b {
		t.Errorf("equal snapshots, different bytes:\n%s\n%s", a, b)
	}
	var back catalog.Snapshot
	if err := json.Unmarshal([]byte(a), &back); err != nil {
		t.Fatal(err)
	}
	if !back.Equal(s) || marshal(t, &back) != a {
		t.Error("the round trip lost something")
	}
	if err := json.Unmarshal([]byte(`{"source":"x","services":[{"name":"web"}]}`), &back); err == nil {
		t.Error("an invalid snapshot was read")
	}
	if !back.Equal(s) {
		t.Error("a failed read changed the value")
	}
	const want = `{"source":"test","services":[]}`
	if got := marshal(t, snapshot(t)); got != want {
		t.Errorf("empty: got %s", got)
	}
}

func TestEqualSeesEveryField(t *testing.T) {
	base := func() *catalog.Service { return service("web", endpoint("a", "10.0.0.1:80")) }
	for name, change := range map[string]func(*catalog.Service){
		"port":        func(s *catalog.Service) { s.Ports[0].Protocol = catalog.GRPC },
		"meta":        func(s *catalog.Service) { s.Meta = map[string]string{"a": "b"} },
		"id":          func(s *catalog.Service) { s.Endpoints[0].ID = "z" },
		"address":     func(s *catalog.Service) { s.Endpoints[0].Address = netip.MustParseAddrPort("10.0.0.1:81") },
		"locality":    func(s *catalog.Service) { s.Endpoints[0].Locality.Zone = "use1-az2" },
		"weight":      func(s *catalog.Service) { s.Endpoints[0].Weight = 2 },
		"health":      func(s *catalog.Service) { s.Endpoints[0].Health = catalog.Critical },
		"labels":      func(s *catalog.Service) { s.Endpoints[0].Labels = map[string]string{"a": "b"} },
		"source":      func(s *catalog.Service) { s.Endpoints[0].Source = "x" },
		"quarantined": func(s *catalog.Service) { s.Endpoints[0].Quarantined = true },
		"endpoint":    func(s *catalog.Service) { s.Endpoints = slices.Delete(s.Endpoints, 0, 1) },
	} {
		other := base()
		change(other)
		a, b := snapshot(t, base()), snapshot(t, other)
		if a.Equal(b) || catalog.Diff(a, b).IsEmpty() {
			t.Errorf("%s: the change is not seen", name)
		}
		if marshal(t, a) == marshal(t, b) {
			t.Errorf("%s: the change is not in the JSON", name)
		}
	}
}

func marshal(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
