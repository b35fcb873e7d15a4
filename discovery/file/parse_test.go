package file_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/file"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

var home = catalog.Locality{Cloud: "aws", Region: "us-east-1"}

const whole = `
services:
  - name: billing.shop
    ports:
      - {name: http, protocol: http}
      - {name: admin}
    endpoints:
      - {address: "10.0.0.1:9001", port: http, zone: use1-az1, weight: 5, health: passing, labels: {version: v2}}
      - {id: two, address: "[2001:db8::1]:9001", port: admin, locality: gcp/us-central1/us-central1-a, health: maintenance}
    meta: {owner: "the shop, inc."}
  - name: db
    endpoints:
      - address: 10.0.0.2:5432
  - name: empty
`

func TestParse(t *testing.T) {
	s, err := file.Parse("c.yaml", []byte(whole), "files", home)
	if err != nil {
		t.Fatal(err)
	}
	want, err := catalog.NewSnapshot("files", []*catalog.Service{
		{
			Name:  catalog.MustServiceName("billing.shop"),
			Ports: []catalog.Port{{Name: "http", Protocol: catalog.HTTP}, {Name: "admin", Protocol: catalog.TCP}},
			Endpoints: []catalog.Endpoint{
				{
					ID: "http/10.0.0.1:9001", Port: "http", Address: netip.MustParseAddrPort("10.0.0.1:9001"),
					Locality: home.WithZone("use1-az1"), Weight: 5, Health: catalog.Passing, Labels: map[string]string{"version": "v2"},
				},
				{
					ID: "two", Port: "admin", Address: netip.MustParseAddrPort("[2001:db8::1]:9001"),
					Locality: catalog.Locality{Cloud: "gcp", Region: "us-central1", Zone: "us-central1-a"}, Weight: 1, Health: catalog.Maintenance,
				},
			},
			Meta: map[string]string{"owner": "the shop, inc."},
		},
		{
			Name: catalog.MustServiceName("db"), Ports: []catalog.Port{{Name: "default", Protocol: catalog.TCP}},
			Endpoints: []catalog.Endpoint{{
				ID: "default/10.0.0.2:5432", Port: "default", Address: netip.MustParseAddrPort("10.0.0.2:5432"),
				Locality: home, Weight: 1, Health: catalog.Unknown,
			}},
		},
		{Name: catalog.MustServiceName("empty"), Ports: []catalog.Port{{Name: "default", Protocol: catalog.TCP}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if !s.Equal(want) {
		t.Errorf("-want +got\n%s", cmp.Diff(text(t, want), text(t, s)))
	}
}

func text(t testing.TB, s *catalog.Snapshot) string {
	t.Helper()
	b, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Every problem of a file is reported, with its line, field, value and rule.
func TestParseReportsEverything(t *testing.T) {
	const broken = `services:
  - name: Billing
    prots: []
    ports: [{name: http, protocol: gopher}, {name: http}]
    endpoints:
      - {address: nowhere, port: http}
      - {port: https, address: "10.0.0.1:0", weight: 0, health: fine}
      - {address: "10.0.0.1:1", zone: A, labels: {"a b": c}}
      - {address: "10.0.0.1:2", port: http, zone: a, locality: x/y/z}
      - {port: http}
  - name: federation.x
  - name: web
    endpoints: [{address: "10.0.0.1:80"}, {address: "10.0.0.1:80"}]
  - name: web
`
	_, err := file.Parse("c.yaml", []byte(broken), "files", home)
	var ps strictyaml.Problems
	if !errors.As(err, &ps) {
		t.Fatalf("want problems, got %v", err)
	}
	var got []string
	for _, p := range ps {
		if p.Line == 0 || p.Rule == "" || p.File != "c.yaml" {
			t.Errorf("a problem without line, rule or file: %+v", p)
		}
		got = append(got, fmt.Sprintf("%d %s", p.Line, p.Field))
	}
	for _, want := range []string{
		"2 services[0].name",
		"3 services[0].prots",
		"4 services[0].ports[0].protocol",
		"4 services[0].ports[1].name",
		"6 services[0].endpoints[0].address",
		"7 services[0].endpoints[1].port",
		"7 services[0].endpoints[1].address",
		"7 services[0].endpoints[1].weight",
		"7 services[0].endpoints[1].health",
		"8 services[0].endpoints[2].port",
		"8 services[0].endpoints[2].zone",
		"8 services[0].endpoints[2].labels",
		"9 services[0].endpoints[3].zone",
		"10 services[0].endpoints[4].address",
		"11 services[1].name",
		"13 services[2].endpoints[1].id",
		"14 services[3].name",
	} {
		n := 0
		for _, g := range got {
			if g == want {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%s is reported %d times", want, n)
		}
	}
	if len(got) != 17 {
		t.Errorf("%d problems:\n%v", len(got), err)
	}
}

func TestParseTellsNothingFromEmpty(t *testing.T) {
	s, err := file.Parse("c.yaml", []byte("services: []\n"), "files", home)
	if err != nil || s.Len() != 0 {
		t.Errorf("an empty list: %v, %v", s, err)
	}
	for _, in := range []string{"", "\n\n", "# services: []\n", "services:\n", "---\n", "{}"} {
		if _, err := file.Parse("c.yaml", []byte(in), "files", home); err == nil {
			t.Errorf("%q was taken for an empty catalog", in)
		}
	}
}

func TestParseNeedsTheClusterForZones(t *testing.T) {
	const in = "services: [{name: a, endpoints: [{address: '10.0.0.1:1', zone: z}]}]"
	_, err := file.Parse("c.yaml", []byte(in), "files", catalog.Locality{})
	if err == nil || !strings.Contains(err.Error(), "locality: cloud/region/zone") {
		t.Errorf("got %v", err)
	}
}

func TestParseBoundsItsReport(t *testing.T) {
	in := "services:\n" + strings.Repeat("  - {name: A, oops: 1}\n", 1000)
	_, err := file.Parse("c.yaml", []byte(in), "files", home)
	if n := strings.Count(err.Error(), "\n"); n > 110 || !strings.Contains(err.Error(), "more problems") {
		t.Errorf("%d lines", n)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte("services: []"))
	f.Add([]byte("services: [{name: a, endpoints: [{address: '10.0.0.1:1'}]}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := file.Parse("f.yaml", data, "files", home)
		if (s == nil) == (err == nil) {
			t.Fatalf("got %v and %v", s, err)
		}
		if err != nil {
			var ps strictyaml.Problems
			if !errors.As(err, &ps) || len(ps) == 0 {
				t.Fatalf("an error without problems: %v", err)
			}
			return
		}
		for svc := range s.All() {
			if err := svc.Validate(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
