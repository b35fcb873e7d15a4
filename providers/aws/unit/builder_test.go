package unit_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/providers/aws/unit"
)

var name = unit.Name{Account: "prod", Region: "us-east-1", Kind: "ec2"}

func endpoint(change func(*unit.Endpoint)) unit.Endpoint {
	e := unit.Endpoint{
		Service: "web", ID: "i-1:80", Port: catalog.Port{Name: "default", Protocol: catalog.HTTP},
		Address: netip.MustParseAddr("10.0.0.1"), Number: 80, Zone: "use1-az4", Health: catalog.Passing,
	}
	if change != nil {
		change(&e)
	}
	return e
}

func TestWhatIsNoValueIsLeftOutAndCounted(t *testing.T) {
	many := map[string]string{}
	for i := range 200 {
		many[fmt.Sprintf("key-%03d", i)] = "v"
	}
	for _, c := range []struct {
		name   string
		change func(*unit.Endpoint)
		reason string
		count  int
		stays  bool
	}{
		{"good", nil, "", 0, true},
		{"name", func(e *unit.Endpoint) { e.Service = "Web_1" }, unit.BadName, 1, false},
		{"no name", func(e *unit.Endpoint) { e.Service = "" }, unit.BadName, 1, false},
		{"reserved", func(e *unit.Endpoint) { e.Service = "federation" }, unit.BadName, 1, false},
		{"port's name", func(e *unit.Endpoint) { e.Port.Name = "A" }, unit.BadName, 1, false},
		{"no address", func(e *unit.Endpoint) { e.Address = netip.Addr{} }, unit.BadAddress, 1, false},
		{"zone of an address", func(e *unit.Endpoint) { e.Address = netip.MustParseAddr("fe80::1%eth0") }, unit.BadAddress, 1, false},
		{"port 0", func(e *unit.Endpoint) { e.Number = 0 }, unit.BadPort, 1, false},
		{"port", func(e *unit.Endpoint) { e.Number = 65536 }, unit.BadPort, 1, false},
		{"zone", func(e *unit.Endpoint) { e.Zone = "US EAST" }, unit.BadZone, 1, true},
		{"weight", func(e *unit.Endpoint) { e.Tags = map[string]string{unit.TagWeight: "0"} }, unit.BadWeight, 1, true},
		{"label", func(e *unit.Endpoint) {
			e.Tags = map[string]string{"a b": "x", "c": "y,z", "d": strings.Repeat("x", 600)}
		}, unit.BadLabel, 3, true},
		{"labels", func(e *unit.Endpoint) { e.Tags = many }, unit.BadLabel, 200 - catalog.MaxLabels, true},
		{"id", func(e *unit.Endpoint) { e.ID = strings.Repeat("x", 2000) }, unit.BadService, 1, false},
	} {
		b := unit.NewBuilder(name, unit.Shape{Namespace: "default", Labels: []string{"*"}})
		b.Add(endpoint(c.change))
		got := b.Content()
		if (got.Endpoints() == 1) != c.stays || got.Rejected[c.reason] != c.count || len(got.Rejected) > 1 {
			t.Errorf("%s: %d endpoints, rejected %v", c.name, got.Endpoints(), got.Rejected)
		}
		for _, s := range got.Services {
			if err := s.Validate(); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	}
}

// The same endpoints in any order are the same content.
func TestTheOrderDoesNotMatter(t *testing.T) {
	var all []unit.Endpoint
	for i := range 20 {
		all = append(all, endpoint(func(e *unit.Endpoint) {
			e.ID, e.Number = fmt.Sprintf("i-%d", i), 80+i%3
			e.Port = catalog.Port{Name: fmt.Sprintf("p%d", i%3), Protocol: []catalog.Protocol{catalog.TCP, catalog.HTTP}[i%2]}
			e.Tags = map[string]string{"version": fmt.Sprint(i), "team": "x", unit.TagWeight: fmt.Sprint(1 + i)}
		}))
	}
	build := func() *catalog.Service {
		b := unit.NewBuilder(name, unit.Shape{Namespace: "shop", Labels: []string{"version"}})
		for _, i := range rand.Perm(len(all)) {
			b.Add(all[i])
		}
		return b.Content().Services[catalog.MustServiceName("web.shop")]
	}
	first := build()
	for range 50 {
		if again := build(); !first.Equal(again) {
			t.Fatalf("got %+v, before %+v", again, first)
		}
	}
	e := first.Endpoints[0]
	if want := (catalog.Locality{Cloud: "aws", Region: "us-east-1", Zone: "use1-az4"}); e.Locality != want || !strings.HasPrefix(e.ID, "prod/us-east-1/ec2/i-") || len(e.Labels) != 1 {
		t.Errorf("endpoint %+v", e)
	}
}
