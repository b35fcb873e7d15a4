package budget_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/budget"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/board"
)

// hosting is a table with a service of so many endpoints that take each so many calls at
// once.
func hosting(endpoints int, each uint32) *route.Table {
	s := route.Service{
		Name: pay, Ports: []catalog.Port{{Name: "http", Protocol: catalog.HTTP}},
		Traffic: &policy.Traffic{Name: "pay", Services: []policy.ServicePattern{"*"}, Capacity: &policy.Capacity{PerEndpoint: each}},
	}
	for i := range endpoints {
		s.Endpoints = append(s.Endpoints, catalog.Endpoint{
			ID: fmt.Sprint("e", i), Port: "http", Weight: 1, Health: catalog.Passing,
			Address: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(1000+i)),
		})
	}
	return &route.Table{
		Format: route.TableFormat, Epoch: 1, Version: 1, Cluster: route.Cluster{Name: "alpha", ID: "spiffe://a.test/isthmus/cluster/alpha"},
		Services: []route.Service{s},
	}
}

// TestACapacityIsSharedByGateways of a cluster, by their demand and through the federation's
// own allocator: together they never use more than the cluster declares, and the share of
// one that dies comes to the other when its lease is over.
func TestACapacityIsSharedByGateways(t *testing.T) {
	const capacity = 400 // of 4 endpoints
	now := time.Unix(1_700_000_000, 0)
	var shares budget.Allocator
	type gateway struct {
		*board.Board
		calls int // under way
		dead  bool
	}
	gateways := make([]*gateway, 2)
	for i := range gateways {
		b, err := board.New(board.Options{Cluster: "alpha", Random: rand.Uint64, Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		b.SetTable(hosting(4, capacity/4))
		gateways[i] = &gateway{Board: b}
	}
	slots := func(g *gateway) uint64 {
		for own := range g.Plan().Capacities() {
			if own.Target.Service == pay {
				return own.Slots
			}
		}
		return 0
	}
	// load is what callers have under way at a gateway from now on.
	load := func(g *gateway, calls int) {
		choice, _ := g.Plan().Pick(&route.Request{Service: pay, Pin: "alpha"})
		if choice.Status != route.OK {
			t.Fatalf("choice %+v", choice)
		}
		for ; g.calls < calls; g.calls++ {
			choice.Meter.Begin(route.PriorityDefault, false)
		}
		for ; g.calls > calls; g.calls-- {
			choice.Meter.End(route.PriorityDefault, false)
		}
	}
	var most uint64
	run := func(seconds int) {
		t.Helper()
		for range seconds {
			var all uint64
			for i, g := range gateways {
				if g.dead {
					continue
				}
				g.Refresh()
				g.TakeShares(now, shares.Report(fmt.Sprint("gw", i), g.Demands(), 2, now))
				g.Refresh()
				all += slots(g)
			}
			if most = max(most, all); all > capacity {
				t.Errorf("%v: the gateways may use %d of %d", now, all, capacity)
			}
			now = now.Add(time.Second)
		}
	}
	run(2)
	load(gateways[0], 150)
	load(gateways[1], 20)
	run(15)
	busy, idle := slots(gateways[0]), slots(gateways[1])
	if busy < 150 || idle < 20 || busy < idle {
		t.Errorf("%d and %d slots where 150 and 20 are wanted", busy, idle)
	}
	gateways[0].dead = true
	load(gateways[1], 170)
	run(int(budget.Lease/time.Second) - 1)
	held := slots(gateways[1])
	run(4)
	after := slots(gateways[1])
	t.Logf("figure: a capacity of %d behind two gateways, demand 150 and 20: %d and %d slots, at most %d together; the first dies: the other has %d within the lease, %d after it", capacity, busy, idle, most, held, after)
	if held+busy > capacity {
		t.Errorf("%d slots while the other's lease of %d holds", held, busy)
	}
	if after < 170 || after <= held {
		t.Errorf("%d slots after the lease of the one that died, %d before", after, held)
	}
}
