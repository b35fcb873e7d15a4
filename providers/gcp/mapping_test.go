package gcp_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/providers/gcp"
	"github.com/isthmus-mesh/isthmus/providers/gcp/gcptest"
)

const instanceURL = "https://www.googleapis.com/compute/v1/projects/shop-prod/zones/us-central1-b/instances/vm"

// whole has something of every kind, and of everything that may be wrong with it.
func whole() gcptest.World {
	p := &gcptest.Project{Zones: []string{"us-central1-a", "us-central1-b", "europe-west1-b"}, Regions: []string{"us-central1", "europe-west1"}}
	for i, status := range []string{"RUNNING", "STAGING", "STOPPING", "TERMINATED"} {
		p.Instances = append(p.Instances, gcptest.Instance{
			Zone: "us-central1-a", Name: "label-" + strings.ToLower(status), IP: "10.1.0." + string(rune('1'+i)), Status: status,
			Labels: map[string]string{"isthmus-service": "web", "isthmus-port": "8080", "isthmus-protocol": "http", "version": "v2", "owner": "x"},
		})
	}
	p.Instances = append(p.Instances,
		gcptest.Instance{Zone: "europe-west1-b", Name: "plain", IP: "10.1.0.9", Labels: map[string]string{"isthmus-service": "web", "isthmus-namespace": "eu"}},
		gcptest.Instance{Zone: "europe-west1-b", Name: "bad-name", IP: "10.1.0.10", Labels: map[string]string{"isthmus-service": "no_label", "isthmus-port": "1"}},
		gcptest.Instance{Zone: "europe-west1-b", Name: "bad-port", IP: "10.1.0.11", Labels: map[string]string{"isthmus-service": "web", "isthmus-port": "70000"}},
		gcptest.Instance{Zone: "europe-west1-b", Name: "no-address", Labels: map[string]string{"isthmus-service": "web", "isthmus-port": "1"}},
		gcptest.Instance{Zone: "us-central1-a", Name: "m1", IP: "10.2.0.1"},
		gcptest.Instance{Zone: "us-central1-b", Name: "m2", IP: "10.2.0.2"},
		gcptest.Instance{Zone: "us-central1-b", Name: "m3", IP: "10.2.0.3"},
		gcptest.Instance{Zone: "us-central1-b", Name: "m4", IP: "10.2.0.4"},
	)
	p.ManagedGroups = []gcptest.ManagedGroup{
		{Location: "us-central1", Name: "shop-mig", NamedPorts: map[string]int{"http": 9000}, Members: []gcptest.Member{
			{Zone: "us-central1-a", Name: "m1", Health: "HEALTHY"},
			{Zone: "us-central1-b", Name: "m2", Health: "UNHEALTHY"},
			{Zone: "us-central1-b", Name: "m3", Action: "DELETING", Health: "HEALTHY"},
			{Zone: "us-central1-b", Name: "m4"},
			{Zone: "us-central1-b", Name: "to-be-made", Action: "CREATING", Status: "PROVISIONING"},
		}},
		{Location: "us-central1-a", Name: "empty-mig"},
		{Location: "us-central1-a", Name: "somebody-elses"},
	}
	p.EndpointGroups = []gcptest.EndpointGroup{
		{Location: "us-central1-b", Name: "pay-neg", Endpoints: []gcptest.NetworkEndpoint{
			{IP: "10.3.0.1", Port: 7000, Health: "HEALTHY", Instance: instanceURL, Annotations: map[string]string{"version": "v3"}},
			{IP: "10.3.0.2", Port: 7000, Health: "DRAINING"},
			{IP: "10.3.0.3", Port: 7000},
			{FQDN: "pay.example.com", Port: 443},
			{IP: "10.3.0.4"},
		}},
		{Location: "us-central1", Name: "pay-neg", Endpoints: []gcptest.NetworkEndpoint{{IP: "10.3.1.1", Port: 7001, Instance: instanceURL}}},
	}
	many := gcptest.Service{Name: "many"}
	for i := range 150 {
		many.Endpoints = append(many.Endpoints, gcptest.Endpoint{Name: "e" + string(rune('a'+i/26)) + string(rune('a'+i%26)), Address: "10.4.1.1", Port: 1 + i})
	}
	p.Namespaces = []gcptest.Namespace{
		{Location: "us-central1", Name: "prod", Services: []gcptest.Service{
			{Name: "ledger", Annotations: map[string]string{"isthmus-protocol": "GRPC"}, Endpoints: []gcptest.Endpoint{
				{Name: "one", Address: "10.4.0.1", Port: 50051, Annotations: map[string]string{"version": "v1", "isthmus-zone": "us-central1-a"}},
				{Name: "two", Address: "2001:db8::1", Port: 9100, Annotations: map[string]string{"isthmus-port": "metrics", "isthmus-protocol": "http", "isthmus-zone": "europe-west1-b"}},
				{Name: "no-port", Address: "10.4.0.2"},
				{Name: "no-address", Port: 1},
			}}, {Name: "idle"}, many,
		}},
		{Location: "europe-west1", Name: "eu", Services: []gcptest.Service{{Name: "ledger", Endpoints: []gcptest.Endpoint{{Name: "one", Address: "10.4.2.1", Port: 1}}}}},
	}
	return gcptest.World{project: p, "shop-data": {
		Zones: []string{"us-central1-f"}, EndpointGroups: []gcptest.EndpointGroup{
			{Location: "us-central1-f", Name: "pay-neg", Endpoints: []gcptest.NetworkEndpoint{{IP: "10.5.0.1", Port: 7000, Health: "UNHEALTHY"}}},
		},
	}}
}

func wholeConfig(s *gcptest.Server) gcp.Config {
	c := config(s)
	c.Projects = []string{project, "shop-data"}
	c.Labels = []string{"version"}
	c.Instances = &gcp.Instances{Ports: []gcp.Port{{Name: "alt", Port: 81, Protocol: catalog.TCP}, {Name: "admin", Port: 9001, Protocol: catalog.HTTP}}}
	c.ManagedGroups = []gcp.Group{
		{Name: "shop-mig", Service: catalog.MustServiceName("shop"), Ports: []gcp.Port{{Name: "http", Protocol: catalog.HTTP}}},
		{Name: "empty-mig", Service: catalog.MustServiceName("nobody"), Ports: []gcp.Port{{Port: 1}}},
		{Name: "never-made", Service: catalog.MustServiceName("ghost"), Ports: []gcp.Port{{Port: 1}}},
	}
	c.EndpointGroups = []gcp.Group{{Name: "pay-neg", Service: catalog.MustServiceName("pay"), Ports: []gcp.Port{{Protocol: catalog.GRPC}}}}
	c.ServiceDirectory = []gcp.Directory{
		{Projects: []string{project}, Locations: []string{"us-central1"}, Namespace: "prod", As: "default"},
		{Projects: []string{project}, Locations: []string{"europe-west1"}},
	}
	return c
}

func TestMapping(t *testing.T) {
	s := gcptest.New(t)
	s.Set(whole())
	registry := prometheus.NewPedanticRegistry()
	source, err := gcp.New(gcp.Options{Name: "cloud", Config: wholeConfig(s), Registerer: registry})
	if err != nil {
		t.Fatal(err)
	}
	f := followSource(t, source)
	got := lines(f.snapshot("everything", func(s *catalog.Snapshot) bool { return s.Len() > 0 }))
	many := 0
	got = slices.DeleteFunc(got, func(l string) bool {
		is := strings.HasPrefix(l, "many.default")
		if is {
			many++
		}
		return is
	})
	if many != 150 {
		t.Errorf("%d of the 150 endpoints that ResolveService would cut at 100", many)
	}
	want := []string{
		"idle.default",
		"ledger.default default/grpc 10.4.0.1:50051 gcp/us-central1/us-central1-a unknown map[version:v1]",
		"ledger.default metrics/http [2001:db8::1]:9100 gcp/us-central1 unknown map[]",
		"nobody.default",
		"pay.default default/grpc 10.3.0.1:7000 gcp/us-central1/us-central1-b passing map[version:v3]",
		"pay.default default/grpc 10.3.0.2:7000 gcp/us-central1/us-central1-b maintenance map[]",
		"pay.default default/grpc 10.3.0.3:7000 gcp/us-central1/us-central1-b unknown map[]",
		"pay.default default/grpc 10.3.1.1:7001 gcp/us-central1/us-central1-b unknown map[]",
		"pay.default default/grpc 10.5.0.1:7000 gcp/us-central1/us-central1-f critical map[]",
		"shop.default http/http 10.2.0.1:9000 gcp/us-central1/us-central1-a passing map[]",
		"shop.default http/http 10.2.0.2:9000 gcp/us-central1/us-central1-b critical map[]",
		"shop.default http/http 10.2.0.3:9000 gcp/us-central1/us-central1-b maintenance map[]",
		"shop.default http/http 10.2.0.4:9000 gcp/us-central1/us-central1-b unknown map[]",
		"web.default default/http 10.1.0.1:8080 gcp/us-central1/us-central1-a unknown map[version:v2]",
		"web.default default/http 10.1.0.2:8080 gcp/us-central1/us-central1-a critical map[version:v2]",
		"web.default default/http 10.1.0.3:8080 gcp/us-central1/us-central1-a maintenance map[version:v2]",
		"web.default default/http 10.1.0.4:8080 gcp/us-central1/us-central1-a maintenance map[version:v2]",
		"ledger.eu default/tcp 10.4.2.1:1 gcp/europe-west1 unknown map[]",
		"web.eu admin/http 10.1.0.9:9001 gcp/europe-west1/europe-west1-b unknown map[]",
		"web.eu alt/tcp 10.1.0.9:81 gcp/europe-west1/europe-west1-b unknown map[]",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	f.recovered()
	if n, err := testutil.GatherAndCount(registry, "isthmus_gcp_reads_total"); err != nil || n != 8 {
		t.Errorf("%d series of complete reads, want one for each project and kind: %v", n, err)
	}
	// The requests that it took are the ones whose permissions the role has.
	seen, checked := s.Seen()
	t.Logf("figure: %d requests and answers of %d methods were as published", checked, len(seen))
	role(t, seen)
}

var tableRow = regexp.MustCompile(`(?m)^\| ((?:compute|servicedirectory)\.[\w.]+) \| ([\w., ]+) \|$`)

// role checks that iam-role.yaml has exactly what the methods that were called
// need, by the table in README.md.
func role(t *testing.T, called map[string]int) {
	t.Helper()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	need := map[string]bool{}
	table := map[string]bool{}
	for _, row := range tableRow.FindAllStringSubmatch(string(readme), -1) {
		table[row[1]] = true
		if called[row[1]] == 0 {
			t.Errorf("README.md lists %s, which is not called", row[1])
		}
		for p := range strings.SplitSeq(row[2], ", ") {
			need[p] = true
		}
	}
	for method := range called {
		if !table[method] {
			t.Errorf("%s is called, and not in README.md", method)
		}
	}
	data, err := os.ReadFile("iam-role.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		Permissions []string `yaml:"includedPermissions"`
	}
	if err := yaml.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	var want []string
	for p := range need {
		want = append(want, p)
	}
	slices.Sort(want)
	if d := cmp.Diff(want, r.Permissions); d != "" {
		t.Errorf("iam-role.yaml: -needed +listed\n%s", d)
	}
}
