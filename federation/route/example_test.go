package route_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// A gateway compiles what its federation says with what it saw itself, and asks
// the plan for each request.
func Example() {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	ports := []catalog.Port{{Name: "http", Protocol: catalog.HTTP}}
	web := catalog.MustServiceName("web.default")
	table := &route.Table{
		Format:  route.TableFormat,
		Cluster: route.Cluster{Name: "aws", Locality: catalog.Locality{Cloud: "aws", Region: "us-east-1"}, ID: "spiffe://aws.example/c"},
		Peers:   []route.Peer{{Name: "gcp", Locality: catalog.Locality{Cloud: "gcp", Region: "us-central1"}, ID: "spiffe://gcp.example/c"}},
		Services: []route.Service{{
			Name: web, Ports: ports,
			Endpoints: []catalog.Endpoint{{
				ID: "web-1", Port: "http", Address: netip.MustParseAddrPort("10.0.0.1:8080"), Weight: 1, Health: catalog.Passing,
			}},
			Remote: []route.Remote{{Cluster: "gcp", Name: web, Ports: ports, Rows: []catalog.SummaryRow{{Port: "http", Ready: 2, Total: 2}}}},
		}},
	}
	evidence := &route.Evidence{
		Now:   now,
		Links: map[catalog.ClusterName]route.LinkEvidence{"gcp": {Up: true, RTT: 30 * time.Millisecond}},
		Endpoints: map[route.EndpointKey]route.EndpointEvidence{
			{Service: web, Port: "http", ID: "web-1"}: {Healthy: true},
		},
	}
	live := route.NewLive()
	request := &route.Request{Service: web, Random: 1, NowNanos: now.UnixNano()}

	choice, _ := route.Compile(table, evidence, live).Pick(request)
	fmt.Println(choice.Target.Cluster, choice.Endpoint.Address)

	evidence.Endpoints = map[route.EndpointKey]route.EndpointEvidence{
		{Service: web, Port: "http", ID: "web-1"}: {Reason: "connection refused"},
	}
	choice, record := route.Compile(table, evidence, live).Pick(request)
	fmt.Println(choice.Target.Cluster)
	fmt.Println(route.Compile(table, evidence, live).Replay(record).Otherwise)
	// Output:
	// aws 10.0.0.1:8080
	// gcp
	// aws would be chosen if one of its 1 endpoints there became ready (1 unhealthy)
}

// An ejector watches one target's outcomes; five failures in a row eject it.
func ExampleEjector() {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	e := route.NewEjector(route.DefaultEjector())
	for range 5 {
		e.Observe(route.LinkFailure, now, 0, true) // not the service's fault
	}
	fmt.Println(e.Until().IsZero())
	for range 5 {
		e.Observe(route.ServiceFailure, now, 1<<63, true)
	}
	fmt.Println(e.Until().Sub(now), e.Reason())
	// Output:
	// true
	// 1s 5 failures in a row
}
