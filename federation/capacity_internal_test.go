package federation

import (
	"reflect"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

func TestCapacitiesAddUpWhatGatewaysTell(t *testing.T) {
	now := time.Unix(1_800_000_000, 0).UTC()
	pay, other := catalog.MustServiceName("pay"), catalog.MustServiceName("other")
	endpoint := func(id string, health catalog.Health) catalog.Endpoint {
		return catalog.Endpoint{ID: id, Port: "http", Weight: 1, Health: health}
	}
	ports := []catalog.Port{{Name: "http", Protocol: catalog.HTTP}}
	table := &route.Table{Cluster: route.Cluster{Name: "own"}, Services: []route.Service{
		{
			Name: other, Ports: ports, Endpoints: []catalog.Endpoint{endpoint("x", catalog.Passing)},
			Remote: []route.Remote{{Cluster: "b", Ports: ports, Rows: []catalog.SummaryRow{{Port: "http", Ready: 1, Total: 1}}}},
		},
		{
			Name: pay, Ports: ports,
			Traffic:   &policy.Traffic{Capacity: &policy.Capacity{PerEndpoint: 50}},
			Endpoints: []catalog.Endpoint{endpoint("a", catalog.Passing), endpoint("b", catalog.Passing), endpoint("c", catalog.Passing)},
			Remote: []route.Remote{
				{Cluster: "b", Ports: ports, Rows: []catalog.SummaryRow{{Port: "http", Ready: 2, Total: 4}, {Port: "grpc", Ready: 9, Total: 9}}},
				{Cluster: "c", Ports: ports, Rows: []catalog.SummaryRow{{Port: "http", Ready: 1, Total: 1}}},
			},
		},
	}}
	target := func(s catalog.ServiceName, c catalog.ClusterName) route.Target {
		return route.Target{Service: s, Port: "http", Cluster: c}
	}
	room := func(granted uint64, until time.Duration) *route.TargetCapacity {
		return &route.TargetCapacity{Capacity: 400, Spare: 60, Carried: 300, Granted: granted, GrantedUntil: now.Add(until)}
	}
	report := func(name string, targets ...route.TargetReport) heard {
		return heard{report: &route.Report{Gateway: catalog.Gateway{Name: name}, At: now, Targets: targets, Endpoints: []route.EndpointReport{
			{Endpoint: route.EndpointKey{Service: pay, Port: "http", ID: "c"}, Known: true, Healthy: false},
		}}}
	}
	reports := []heard{
		report("gw1", route.TargetReport{Target: target(pay, "own"), InFlight: 30},
			route.TargetReport{Target: target(pay, "b"), InFlight: 5, Room: room(20, time.Second), Reported: true, Ready: 3, Total: 4, ReportedAt: now},
			route.TargetReport{Target: target(pay, "gone"), InFlight: 7}),
		report("gw2", route.TargetReport{Target: target(pay, "own"), InFlight: 90},
			route.TargetReport{Target: target(pay, "b"), InFlight: 2, Room: room(10, time.Second)},
			route.TargetReport{Target: target(pay, "c"), InFlight: 4, Room: room(10, 0)}), // its lease is over
	}
	want := []resource.ClusterCapacity{
		{Service: pay, Port: "http", Cluster: "b", Ready: 3, Total: 4, InFlight: 300, Ours: 7, Known: true, Capacity: 400, Spare: 60, Granted: 30},
		{Service: pay, Port: "http", Cluster: "c", Ready: 1, Total: 1, InFlight: 300, Ours: 4},
		{Service: pay, Port: "http", Cluster: "own", Own: true, Ready: 2, Total: 3, InFlight: 120, Ours: 120, Known: true, Capacity: 100, Spare: 0},
	}
	if got := capacities(table, reports, pay); !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	all := capacities(table, reports, catalog.ServiceName{})
	if len(all) != 5 || all[0].Service != other || all[0].Known || all[1].Known {
		t.Errorf("of all: %+v", all)
	}
	if got := capacities(table, nil, pay); len(got) != 3 || got[2].Capacity != 150 || got[0].Known {
		t.Errorf("with no gateway: %+v", got)
	}
}
