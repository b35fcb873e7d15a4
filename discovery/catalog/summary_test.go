package catalog_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

func summary() catalog.Summary {
	return catalog.Summary{
		Service: catalog.MustServiceName("billing"),
		Ports:   []catalog.Port{{Name: "grpc", Protocol: catalog.GRPC}, {Name: "http", Protocol: catalog.HTTP}},
		Rows: []catalog.SummaryRow{
			{Port: "grpc", Zone: "use1-az1", Ready: 1, Total: 2},
			{Port: "http", Zone: "use1-az1", Subset: "version=v1", Ready: 2, Total: 2, Capacity: 100},
			{Port: "http", Zone: "use1-az1", Subset: "version=v2", Ready: 0, Total: 1},
		},
	}
}

func TestSummaryValidate(t *testing.T) {
	if err := summary().Validate(); err != nil {
		t.Fatal(err)
	}
	for field, breakIt := range map[string]func(*catalog.Summary){
		"service":         func(s *catalog.Summary) { s.Service = catalog.FederationService("a") },
		"ports":           func(s *catalog.Summary) { s.Ports[0], s.Ports[1] = s.Ports[1], s.Ports[0] },
		"rows":            func(s *catalog.Summary) { s.Rows = make([]catalog.SummaryRow, catalog.MaxSummaryRows+1) },
		"rows[0].port":    func(s *catalog.Summary) { s.Rows[0].Port = "tcp" },
		"rows[0].zone":    func(s *catalog.Summary) { s.Rows[0].Zone = "A" },
		"rows[1].subset":  func(s *catalog.Summary) { s.Rows[1].Subset = "b=1,a=2" },
		"rows[1].ready":   func(s *catalog.Summary) { s.Rows[1].Ready = 3 },
		"rows[2]":         func(s *catalog.Summary) { s.Rows[2] = s.Rows[1] },
		"rows[2]: rows m": func(s *catalog.Summary) { s.Rows[1], s.Rows[2] = s.Rows[2], s.Rows[1] },
	} {
		s := summary()
		breakIt(&s)
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: got %v", field, err)
		}
	}
}

func TestSummaryEqual(t *testing.T) {
	a, b := summary(), summary()
	if !a.Equal(b) || a.Compare(b) != 0 {
		t.Error("equal summaries are not equal")
	}
	b.Rows[0].Ready = 0
	if a.Equal(b) {
		t.Error("a changed row is not seen")
	}
}

func TestSubsetOf(t *testing.T) {
	labels := map[string]string{"version": "v2", "az": "1", "secret": "x"}
	if got := catalog.SubsetOf(labels, []string{"version", "az", "absent", "version"}); got != "az=1,version=v2" {
		t.Errorf("got %q", got)
	}
	back, err := catalog.ParseSubset("az=1,version=v2")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]string{"version": "v2", "az": "1"}, back); d != "" {
		t.Error(d)
	}
	for _, bad := range []string{"a", "a=1,a=2", "b=1,a=1", ",", "a=1,", "=v", "a=1,b=1,c=1,d=1,e=1", "a=\x00"} {
		if _, err := catalog.ParseSubset(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestGatewayValidate(t *testing.T) {
	good := catalog.Gateway{
		Name: "gw1", ID: "spiffe://aws.example.org/isthmus/cluster/aws/gateway/gw1",
		Addresses: []string{"gw1.example.org:7443", "192.0.2.1:7443", "[2001:db8::1]:7443"},
	}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	if other := good; !other.Equal(good) || good.Compare(catalog.Gateway{Name: "gw2"}) >= 0 {
		t.Error("equality or order is wrong")
	}
	for field, g := range map[string]catalog.Gateway{
		"name":         {Name: "GW", ID: good.ID},
		"id":           {Name: "gw1", ID: "https://x/y"},
		"id: has":      {Name: "gw1", ID: "spiffe://a/" + strings.Repeat("x", catalog.MaxSPIFFEIDLen)},
		"addresses":    {Name: "gw1", ID: good.ID, Addresses: make([]string, catalog.MaxGatewayAddresses+1)},
		"addresses[0]": {Name: "gw1", ID: good.ID, Addresses: []string{"gw1"}},
	} {
		if err := g.Validate(); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: got %v", field, err)
		}
	}
}

func TestCheckHostPort(t *testing.T) {
	for _, good := range []string{"a:1", "A.example.:65535", "127.0.0.1:80", "[::1]:80"} {
		if err := catalog.CheckHostPort(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "a", ":80", "a:", "a:0", "a:65536", "a:080", "a:http", "a b:80", "::1:80", "http://a:80", "-a:80", strings.Repeat("a", 300) + ":80"} {
		if err := catalog.CheckHostPort(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
