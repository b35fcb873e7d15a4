package federation

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/merge"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// waysView is a view of one own service and three that west offers, one of them
// beside the own.
func waysView(t *testing.T, ready uint32) *merge.View {
	t.Helper()
	port := func(name string, p catalog.Protocol) catalog.Port { return catalog.Port{Name: name, Protocol: p} }
	summary := func(name string, ports ...catalog.Port) *catalog.Summary {
		s := &catalog.Summary{Service: catalog.MustServiceName(name), Ports: ports}
		for _, p := range ports {
			s.Rows = append(s.Rows, catalog.SummaryRow{Port: p.Name, Ready: ready, Total: 2})
		}
		return s
	}
	own, err := catalog.NewSnapshot("own", []*catalog.Service{
		{Name: catalog.MustServiceName("local"), Ports: []catalog.Port{port("default", catalog.HTTP)}},
		{Name: catalog.MustServiceName("both"), Ports: []catalog.Port{port("default", catalog.TCP)}, Endpoints: []catalog.Endpoint{
			{ID: "1", Port: "default", Address: netip.MustParseAddrPort("10.0.0.1:1"), Weight: 1, Health: catalog.Passing},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return merge.Update(nil, merge.Input{
		Cluster: "east", Sources: []merge.Source{{Name: "own", Snapshot: own}}, Order: []catalog.ClusterName{"west"},
		Import: func(_ catalog.ClusterName, n catalog.ServiceName) (merge.Import, bool) {
			return merge.Import{As: n, Rule: "all"}, true
		},
		Peers: []merge.Peer{{Cluster: "west", Summaries: []*catalog.Summary{
			summary("both", port("default", catalog.TCP)),
			summary("db.shop", port("main", catalog.TCP), port("admin", catalog.TCP)),
			summary("web", port("default", catalog.HTTP), port("raw", catalog.TCP)),
		}}},
	})
}

func TestWaysIn(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	way := func(kind, address, service, port string) route.Way {
		w := route.Way{Kind: kind, Address: netip.MustParseAddrPort(address), Port: port}
		if service != "" {
			w.Service = catalog.MustServiceName(service)
		}
		return w
	}
	base := func() *route.Report {
		return &route.Report{
			Gateway: catalog.Gateway{Name: "gw1"}, At: now,
			Links: []route.LinkReport{{Cluster: "west", State: "up"}},
			Ways: []route.Way{
				way(route.WayTCP, "10.0.0.5:1", "both", ""), way(route.WayTCP, "10.0.0.5:2", "db.shop", "admin"), way(route.WayTCP, "10.0.0.5:3", "db.shop", "main"),
				way(route.WayTCP, "10.0.0.5:4", "local", ""), way(route.WayTCP, "10.0.0.5:5", "nobody", ""), way(route.WayTCP, "10.0.0.5:6", "web", "gone"),
				way(route.WayHTTP, "10.0.0.5:7", "", ""), way(route.WayMesh, "10.0.0.5:9", "both", ""), way("carrier-pigeon", "10.0.0.5:8", "web", ""),
			},
		}
	}
	const west, here = "reachable in west", "reachable in this cluster"
	for name, c := range map[string]struct {
		ready  uint32
		age    time.Duration
		change func(*route.Report)
		// both, the shop's two ports, the port that is nowhere, and web by HTTP
		want [5]string
	}{
		"all is well": {2, 0, func(*route.Report) {}, [5]string{here, west, west, "!no cluster has the port", west}},
		"no link": {2, 0, func(r *route.Report) { r.Links[0].State = "down" }, [5]string{
			here, "!no link to west", "!no link to west", "!no cluster has the port", "!no link to west",
		}},
		"none is ready": {0, 0, func(*route.Report) {}, [5]string{
			here, "!no cluster has a ready instance", "!no cluster has a ready instance", "!no cluster has the port", "!no cluster has a ready instance",
		}},
		"the gateway is silent": {2, time.Minute, func(*route.Report) {}, [5]string{
			"!the gateway is silent", "!the gateway is silent", "!the gateway is silent", "!no cluster has the port", "!the gateway is silent",
		}},
		"the gateway drains": {2, 0, func(r *route.Report) { r.Gateway.Draining = true }, [5]string{
			"!the gateway is draining", "!the gateway is draining", "!the gateway is draining", "!no cluster has the port", "!the gateway is draining",
		}},
		"the data path takes nothing from one": {2, 0, func(r *route.Report) {
			r.Targets = []route.TargetReport{
				{Target: route.Target{Service: catalog.MustServiceName("web"), Port: "default", Cluster: "west"}, EjectedUntil: now.Add(time.Second)},
				{Target: route.Target{Service: catalog.MustServiceName("db.shop"), Port: "main", Cluster: "west"}, Reported: true, Ready: 0, Total: 2},
				{Target: route.Target{Service: catalog.MustServiceName("db.shop"), Port: "admin", Cluster: "west"}, Reported: true, Ready: 1, Total: 2},
			}
		}, [5]string{here, west, "!no cluster has a ready instance", "!no cluster has the port", "!no cluster has a ready instance"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := base()
			c.change(r)
			var got []string
			for _, w := range newReach(heard{report: r, at: now.Add(-c.age)}, now).ways(waysView(t, c.ready)) {
				bad := ""
				if !w.Reachable {
					bad = "!"
				}
				got = append(got, fmt.Sprintf("%s %s %s:%s %s%s", w.Kind, w.Address, w.Service, w.Port, bad, w.Reason))
			}
			want := []string{
				"tcp 10.0.0.5:1 both.default: " + c.want[0], "tcp 10.0.0.5:2 db.shop:admin " + c.want[1], "tcp 10.0.0.5:3 db.shop:main " + c.want[2],
				"tcp 10.0.0.5:6 web.default:gone " + c.want[3], "mesh 10.0.0.5:9 both.default: " + c.want[0], "http 10.0.0.5:7 web.default: " + c.want[4],
			}
			if !slices.Equal(got, want) {
				t.Errorf("got\n%q\nwant\n%q", got, want)
			}
		})
	}
}
