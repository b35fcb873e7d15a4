package simulation_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/board"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// What goes down and comes back every second, for ten minutes, changes its route ten
// times at most, there and back, however it flaps.
func TestFlappingChangesFewRoutes(t *testing.T) {
	service := catalog.MustServiceName("web.shop")
	ports := []catalog.Port{{Name: "http", Protocol: catalog.HTTP}}
	offer := func(c string) route.Remote {
		return route.Remote{Cluster: catalog.ClusterName(c), Name: service, Ports: ports, Rows: []catalog.SummaryRow{{Port: "http", Ready: 2, Total: 2}}}
	}
	peer := func(c string, where catalog.Locality) route.Peer {
		id := "spiffe://" + c + ".test/isthmus/cluster/" + c
		return route.Peer{Name: catalog.ClusterName(c), ID: id, Locality: where, Gateways: []catalog.Gateway{{Name: "g", ID: id + "/gateway/g", Addresses: []string{"10.0.0.1:7443"}}}}
	}
	here := catalog.Locality{Cloud: "aws", Region: "us-east-1"}
	for _, what := range []string{"link", "readiness", "calls"} {
		t.Run(what, func(t *testing.T) {
			now := time.Unix(1e9, 0)
			rng := rand.New(rand.NewPCG(1, 2))
			up := true
			b, err := board.New(board.Options{
				Cluster: "own", Self: here, Random: rng.Uint64, Now: func() time.Time { return now },
				Links: func() []board.Link {
					return []board.Link{{Cluster: "near", Up: up || what != "link", RTT: 5 * time.Millisecond}, {Cluster: "far", Up: true, RTT: 80 * time.Millisecond}}
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			b.SetTable(&route.Table{
				Format: route.MinTableFormat, Epoch: 1, Version: 1, Federation: netip.MustParseAddrPort("127.0.0.1:7483").String(),
				Cluster:  route.Cluster{Name: "own", Locality: here, ID: "spiffe://own.test/isthmus/cluster/own"},
				Peers:    []route.Peer{peer("far", catalog.Locality{Cloud: "gcp", Region: "asia-east1"}), peer("near", here)},
				Services: []route.Service{{Name: service, Ports: ports, Remote: []route.Remote{offer("far"), offer("near")}}},
			})
			// Left is how often what flaps went out of service; where calls go in between is
			// decided by shares, and single calls are no change.
			left, back, calls, failed, out := 0, 0, 0, 0, false
			const step = 50 * time.Millisecond
			for passed := time.Duration(0); passed < 10*time.Minute; passed += step {
				now = now.Add(step)
				up = passed%time.Second < 500*time.Millisecond
				if passed%(500*time.Millisecond) == 0 && what == "readiness" {
					ready := uint32(0)
					if up {
						ready = 2
					}
					b.TakeReport("near", "g", wire.Report{Services: []wire.ServiceReport{{Service: service.String(), Port: "http", Ready: ready, Total: 2}}})
				}
				b.Refresh()
				choice, _ := b.Plan().Pick(&route.Request{Service: service, Random: rng.Uint64(), NowNanos: now.UnixNano()})
				if choice.Status != route.OK {
					t.Fatalf("after %v: %s", passed, choice.Status)
				}
				outcome := route.Success
				if choice.Target.Cluster == "near" {
					calls++
					if what == "calls" && !up {
						outcome = route.ServiceFailure
						failed++
					}
				}
				b.Observe(choice.Target, nil, outcome, outcome == route.ServiceFailure)
				e := b.Evidence()
				ev := e.Targets[route.Target{Service: service, Port: "http", Cluster: "near"}]
				gone := !e.Links["near"].Up || !ev.EjectedUntil.IsZero() || ev.Reported && ev.Ready == 0
				idle := gone || ev.Withheld == 1 || e.Links["near"].Withheld == 1 // on hold it has no calls to lose
				switch {
				case idle && !out:
					left++
				case out && !idle:
					back++
				}
				out = idle
			}
			t.Logf("figure: %s that flaps every second for 10 min: the route is left %d times and taken again %d times, %d of 12000 calls go there, %d fail at first",
				what, left, back, calls, failed)
			if left+back > 10 {
				t.Errorf("the route changes %d times", left+back)
			}
		})
	}
}
