package guides_test

import (
	"fmt"
	"maps"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/consul/consultest"
	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/e2e/stand/guide"
	"github.com/isthmus-mesh/isthmus/e2e/tools"
)

// management is a token that may do everything.
const management = "aaaaaaaa-0000-4000-8000-000000000001"

// datacenter is one Consul with ACLs, its cluster, and where its operator types.
type datacenter struct {
	*consultest.Agent
	*stand.Cluster
	host *guide.Host
}

func newDatacenter(t *testing.T, s *stand.Stand, c *stand.Cluster, consul string) datacenter {
	t.Helper()
	agent := consultest.Start(t, consultest.Options{Binary: consul, Datacenter: c.Name, ManagementToken: management})
	h := host(t, s, c)
	h.Env = append(h.Env, "CONSUL_HTTP_ADDR="+agent.Address(), "CONSUL_HTTP_TOKEN="+management)
	ip, port, err := net.SplitHostPort(agent.DNS())
	if err != nil {
		t.Fatal(err)
	}
	h.Replace = append(h.Replace, "127.0.0.1:8500", agent.Address(), "@127.0.0.1 -p 8600", "@"+ip+" -p "+port)
	unruled(c, "peers", "exports", "imports", "intentions", "sources")
	return datacenter{Agent: agent, Cluster: c, host: h}
}

// configure adds to the files what the page adds, and what loopback needs.
func (d datacenter) configure(g *guide.Guide, block string, replace ...string) {
	maps.Copy(d.Section(), g.Section(block, "federation", d.host))
	source := d.Section()["sources"].([]any)[0].(map[string]any)
	source["allow"], source["guard"] = []any{"127.0.0.0/8"}, stand.Object{"window": "2s"}
	gateway := g.Section(block, "gateway", d.host, replace...)
	d.Gateways[0].Section()["advertise"] = gateway["advertise"]
	if listen, ok := gateway["listen"].(map[string]any); ok {
		d.Gateways[0].Section()["listen"].(stand.Object)["tcp"] = listen["tcp"]
	}
}

func TestJoinTwoConsulDatacenters(t *testing.T) {
	consul := tools.Require(t, "consul")
	tools.Command(t, "dig")
	g := guide.Read(t, "consul-datacenters.md", consul, stand.Binary(t))
	s := stand.New(t,
		stand.Spec{Name: "east", Cloud: "aws", Region: "us-east-1", Zone: "a", TrustDomain: "east.example.org"},
		stand.Spec{Name: "west", Cloud: "gcp", Region: "us-west1", Zone: "b", TrustDomain: "west.example.org"},
	)
	east, west := newDatacenter(t, s, s.Clusters[0], consul), newDatacenter(t, s, s.Clusters[1], consul)
	way := stand.FreePort(t)
	for _, d := range []datacenter{east, west} {
		g.Run("source token", d.host)
	}
	g.Run("east token", east.host)
	g.Run("east dns", east.host)
	east.configure(g, "east config", "gw.east.example.org:7443", east.Gateways[0].Link.String(), "10.1.0.5:9000", way.String(), "10.1.0.0/16", "127.0.0.0/8")
	east.Section()["sync_out"].(map[string]any)["consul"].(map[string]any)["loopback"] = true
	west.configure(g, "west config", "gw.west.example.org:7443", west.Gateways[0].Link.String())
	s.Start()

	for _, d := range []datacenter{east, west} {
		prints(t, g, "ready", d.host, "alive")
	}
	token := strings.TrimSpace(g.Run("west invite", west.host))
	g.Run("east accept", east.host, "TOKEN", token)
	began := time.Now()
	address, end := instance(t, "127.0.0.1:0", "billing of west")
	defer end()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	g.Run("west offer", west.host, "10.2.0.7", "127.0.0.1", "8080", port)
	g.Run("east take", east.host)
	out := prints(t, g, "east port", east.host, fmt.Sprintf("1 1 %d ", way.Port()))
	if got := g.Run("east address", east.host); got != way.Addr().String()+"\n" {
		t.Errorf("billing.service.consul is at %q, and its SRV record says %q", got, out)
	}
	if got := g.Run("east call", east.host, "billing.service.consul:9000", way.String()); got != "billing of west" {
		t.Errorf("answered %q", got)
	}
	stand.Figure(t, "billing.service.consul answers %.1f s after it was offered", time.Since(began).Seconds())
	if got := g.Run("east health", east.host); got != "reachable in west\n" {
		t.Errorf("Consul is told %q", got)
	}
	prints(t, g, "east explain", east.host, "west")

	g.Run("west out", west.host)
	gone := func(what string) {
		t.Helper()
		stand.Eventually(t, within, what, func() error {
			out, err := g.Try("east port", east.host)
			if err == nil && out != "" {
				err = fmt.Errorf("answered %s", out)
			}
			return err
		})
	}
	gone("an instance in maintenance is no answer")
	g.Run("west back", west.host)
	prints(t, g, "east port", east.host, fmt.Sprintf("1 1 %d ", way.Port()))

	g.Run("east undo", east.host)
	gone("what is undone is no answer")
	stand.Eventually(t, within, "nothing of it is in Consul", func() error {
		list, _, err := east.Client().Health().Service("billing", "", false, nil)
		if err == nil && len(list) > 0 {
			err = fmt.Errorf("%s is there", list[0].Service.ID)
		}
		return err
	})
	g.Run("west undo", west.host)
	if _, err := g.Try("east call", east.host, "billing.service.consul:9000", way.String()); err == nil {
		t.Error("it is answered after it was undone")
	}
}
