package board_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/budget"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/board"
)

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
		with := table()
		for k := range with.Services {
			with.Services[k].Traffic = &policy.Traffic{Name: "all", Services: []policy.ServicePattern{"*"}, Capacity: &policy.Capacity{PerEndpoint: capacity / 4}}
		}
		b.SetTable(with)
		gateways[i] = &gateway{Board: b}
	}
	slots := func(g *gateway) uint64 {
		for own := range g.Plan().Capacities() {
			if own.Target.Service == web {
				return own.Slots
			}
		}
		return 0
	}
	// load is what callers have under way at a gateway from now on.
	load := func(g *gateway, calls int) {
		choice, _ := g.Plan().Pick(&route.Request{Service: web, Pin: "alpha"})
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
