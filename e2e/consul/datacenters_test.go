package consul_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/consul/consultest"
	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/e2e/tools"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

// One entry reads two joined datacenters through one agent, as two sources. The
// far one dies, and the federation starts anew while it is dead: what was known of
// it serves on beside what changes in the other.
func TestOneAgentTwoDatacentersOfWhichOneDies(t *testing.T) {
	binary := tools.Require(t, "consul")
	s := stand.New(t, stand.Spec{Name: "east", Cloud: "aws", Region: "us-east-1", Zone: "a", TrustDomain: "east.test"})
	w := &world{
		Stand: s, east: s.Clusters[0],
		eastDC: consultest.Start(t, consultest.Options{Binary: binary, Datacenter: "near"}),
		westDC: consultest.Start(t, consultest.Options{Binary: binary, Datacenter: "far", Bind: "127.0.0.2"}),
	}
	w.calls = w.east.Calls(t)
	w.eastDC.JoinWAN(w.westDC)
	w.east.Section()["sources"] = []any{stand.Object{
		"consul": stand.Object{
			"address": w.eastDC.Address(), "request_timeout": "5s",
			"datacenters": []any{
				stand.Object{"name": "near"},
				stand.Object{"name": "far", "locality": "aws/us-west-2/usw2-az1", "labels": stand.Object{"site": "west"}},
			},
		},
		"allow": []any{"127.0.0.0/8"}, "guard": stand.Object{"window": "2s"},
	}}
	near, far := instance(t, "near-1"), instance(t, "far-1")
	register(w.westDC, "billing-far", "billing", far)
	register(w.eastDC, "web-near", "web", near)
	w.Start()
	w.until(t, "a service of the far datacenter is called", "billing", "far-1")
	w.until(t, "a service of the near datacenter is called", "web", "near-1")

	w.westDC.Kill()
	w.east.Federation.Kill()
	w.east.Federation.Start()
	register(w.eastDC, "orders-near", "orders", near)
	w.until(t, "a service is registered here while the far datacenter is dead", "orders", "near-1")
	w.until(t, "a service of the datacenter that is dead is called on", "billing", "far-1")
	api := apiOf(t, filepath.Join(s.Dir, "east", "data"), w.east.API)
	stand.Eventually(t, within, "each source tells of its own datacenter", func() error {
		list, err := api.Sources().List(t.Context())
		if err != nil {
			return err
		}
		by := map[string]resource.Source{}
		for _, src := range list {
			by[src.Name] = src
		}
		switch n, f := by["consul-near"], by["consul-far"]; {
		case len(list) != 2 || n.State != "ok" || n.Error != "":
			return fmt.Errorf("%+v", list)
		case f.State == "ok" || f.Error == "":
			return fmt.Errorf("far: %+v", f)
		}
		endpoints, err := api.Endpoints("").List(t.Context())
		for _, e := range endpoints {
			if e.Service.Name() == "billing" && e.Locality.String() == "aws/us-west-2/usw2-az1" && e.Labels["site"] == "west" && e.Source == "consul-far" {
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("endpoints %+v", endpoints))
	})
	w.westDC.Restart()
	w.westDC.Deregister("billing-far")
	other := instance(t, "far-2")
	register(w.westDC, "orders-far", "bills", other)
	w.until(t, "the far datacenter is followed again", "bills", "far-2")
}
