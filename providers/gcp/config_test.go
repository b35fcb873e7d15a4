package gcp_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
	"github.com/isthmus-mesh/isthmus/providers/gcp"
)

const good = `
projects: [shop-prod]
credentials_file: /nowhere.json
interval: 1m
labels: ["*"]
instances: {ports: [{port: 80}]}
managed_groups: [{name: web-mig, service: web.shop, ports: [{name: http, protocol: http}]}]
endpoint_groups: [{name: pay-neg, service: pay, ports: [{protocol: grpc}], locations: [us-central1-a], projects: [shop-prod]}]
service_directory: [{locations: [us-central1], namespace: prod, as: shop}]
`

// A configuration is checked without a call or a file, and tells all at once.
func TestParse(t *testing.T) {
	c, err := gcp.Parse("gcp.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gcp.New(gcp.Options{Name: "cloud", Config: c}); err != nil {
		t.Errorf("a file of credentials that is not there is none of New's business: %v", err)
	}
	const bad = `
projects: [Shop, shop-prod, shop-prod]
interval: 1ms
timeout: 1h
requests_per_minute: -1
cloud: A
address: best
labels: 7
compute_endpoint: ftp://x
service_directory_endpoint: "http://u:p@x"
oops: 1
instances: {service_label: "A b", namespace: X, ports: [{name: http}, {name: http, port: 70000, protocol: gopher}]}
managed_groups:
  - {name: "a/b", service: "A", ports: []}
  - {name: web, service: web, ports: [{port: 1}], projects: [other-project]}
  - {name: web2, service: web, ports: [{port: 1, protocol: http}]}
  - {name: web3, service: federation.x, ports: [{port: 1}]}
endpoint_groups: [{name: x, ports: [{port: 1}, {name: b, port: 2}], locations: ["../z"]}]
service_directory: [{namespace: P, as: Q, protocol: carrier-pigeon}]
`
	_, err = gcp.Parse("gcp.yaml", []byte(bad))
	var problems strictyaml.Problems
	if !errors.As(err, &problems) {
		t.Fatalf("want problems, got %v", err)
	}
	found := map[string]bool{}
	for _, p := range problems {
		if p.Line == 0 || p.Rule == "" {
			t.Errorf("a problem without place or rule: %+v", p)
		}
		found[p.Field] = true
	}
	for _, field := range []string{
		"projects[0]", "projects[2]", "interval", "timeout", "requests_per_minute", "cloud", "address", "labels",
		"compute_endpoint", "service_directory_endpoint", "oops", "instances.service_label", "instances.namespace",
		"instances.ports[0].port", "instances.ports[1].name", "instances.ports[1].port", "instances.ports[1].protocol",
		"managed_groups[0].name", "managed_groups[0].service", "managed_groups[0].ports", "managed_groups[1].projects[0]",
		"managed_groups[2].ports[0].protocol", "managed_groups[3].service", "endpoint_groups[0].service",
		"endpoint_groups[0].ports", "endpoint_groups[0].locations[0]", "service_directory[0].locations",
		"service_directory[0].namespace", "service_directory[0].as", "service_directory[0].protocol",
	} {
		if !found[field] {
			t.Errorf("nothing is said of %s", field)
		}
		delete(found, field)
	}
	for field := range found {
		t.Errorf("says something of %s", field)
	}
	if _, err := gcp.Parse("gcp.yaml", []byte("projects: [shop-prod]")); err == nil || !strings.Contains(err.Error(), "at least one of instances") {
		t.Errorf("nothing to read: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("projects: []\ninstances: {}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := gcp.Parse("f.yaml", data)
		var problems strictyaml.Problems
		if err != nil && (!errors.As(err, &problems) || len(problems) == 0) {
			t.Fatalf("an error without problems: %v", err)
		}
		if err == nil {
			if _, err := gcp.New(gcp.Options{Name: "cloud", Config: c}); err != nil {
				t.Fatalf("what Parse takes New does not: %v", err)
			}
		}
	})
}
