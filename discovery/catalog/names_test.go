package catalog_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

func TestParseServiceName(t *testing.T) {
	for in, want := range map[string]string{"web": "web.default", "web.shop": "web.shop", "0-a.b": "0-a.b"} {
		n, err := catalog.ParseServiceName(in)
		if err != nil || n.String() != want {
			t.Errorf("%q: got %q, %v; want %q", in, n, err, want)
		}
	}
	for _, bad := range []string{"", ".", "web.", ".shop", "Web", "a.b.c", "-a", "a-", "a_b", strings.Repeat("a", 64)} {
		if n, err := catalog.ParseServiceName(bad); err == nil {
			t.Errorf("%q was accepted as %q", bad, n)
		}
	}
}

func TestServiceNameText(t *testing.T) {
	var n catalog.ServiceName
	if _, err := json.Marshal(map[catalog.ServiceName]int{n: 1}); err == nil {
		t.Error("the zero name was written")
	}
	m := map[catalog.ServiceName]int{catalog.MustServiceName("a.b"): 1}
	var back map[catalog.ServiceName]int
	if err := json.Unmarshal([]byte(marshal(t, m)), &back); err != nil || back[catalog.MustServiceName("a.b")] != 1 {
		t.Errorf("got %v, %v", back, err)
	}
	if !catalog.FederationService("aws").IsFederation() || !catalog.MustServiceName("federation.any").IsFederation() {
		t.Error("the reserved name is not known")
	}
}

func TestParseLocality(t *testing.T) {
	for _, good := range []string{"", "aws", "aws/us-east-1", "aws/us-east-1/use1-az4"} {
		l, err := catalog.ParseLocality(good)
		if err != nil || l.String() != good {
			t.Errorf("%q: got %q, %v", good, l, err)
		}
	}
	for _, bad := range []string{"/", "aws/", "aws//z", "/r", "a/b/c/d", "AWS"} {
		if l, err := catalog.ParseLocality(bad); err == nil {
			t.Errorf("%q was accepted as %+v", bad, l)
		}
	}
	a, b := catalog.Locality{Cloud: "aws", Region: "a", Zone: "z"}, catalog.Locality{Cloud: "aws", Region: "b"}
	if a.Compare(b) >= 0 || b.Compare(a) <= 0 || a.WithZone("y").Zone != "y" {
		t.Error("the order is wrong")
	}
}

func TestFindPort(t *testing.T) {
	two := []catalog.Port{{Name: "default", Protocol: catalog.TCP}, {Name: "http", Protocol: catalog.HTTP}}
	for name, want := range map[string]string{"": "default", "http": "http"} {
		if p, ok := catalog.FindPort(two, name); !ok || p.Name != want {
			t.Errorf("%q: got %v %v", name, p, ok)
		}
	}
	if p, ok := catalog.FindPort(two[1:], ""); !ok || p.Name != "http" {
		t.Errorf("the only port: got %v %v", p, ok)
	}
	if _, ok := catalog.FindPort(two, "grpc"); ok {
		t.Error("found a port that is not there")
	}
}
