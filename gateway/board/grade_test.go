package board_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/board"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// graded is a board whose own callers have 10 critical calls in progress, 20 default and
// 50 low ones, of 95 that fit; beta's calls are given no more than most.
func graded(t *testing.T, most policy.CallPriority) (b *board.Board, metrics *prometheus.Registry) {
	t.Helper()
	now := time.Unix(1_700_000_000, 0)
	metrics = prometheus.NewRegistry()
	b, err := board.New(board.Options{Cluster: "alpha", Random: rand.Uint64, Now: func() time.Time { return now }, Registerer: metrics})
	if err != nil {
		t.Fatal(err)
	}
	tab := table()
	tab.Peers[0].MaxPriority = most
	tab.Services[1].Traffic = &policy.Traffic{Name: "web", Services: []policy.ServicePattern{"*"}, Capacity: &policy.Capacity{PerEndpoint: 25}}
	b.SetTable(tab)
	c, _ := b.Plan().Pick(&route.Request{Service: web, Pin: "alpha"})
	for p, calls := range [route.Priorities]int{route.PriorityCritical: 10, route.PriorityDefault: 20, route.PriorityLow: 50} {
		for range calls {
			c.Meter.Begin(route.Priority(p), false)
		}
	}
	b.Refresh()
	return b, metrics
}

// TestCriticalCallsOfAPeerAreGrantedWhatOwnLowOnesUse, and no more of what they are given
// than that.
func TestCriticalCallsOfAPeerAreGrantedWhatOwnLowOnesUse(t *testing.T) {
	for _, c := range []struct {
		most               policy.CallPriority
		low, def, critical uint64 // up to each
	}{{"", 6, 59, 85}, {policy.DefaultPriority, 6, 59, 59}, {policy.LowPriority, 6, 6, 6}} {
		b, metrics := graded(t, c.most)
		b.TakeLoad("beta", "gw1", wire.Load{Seq: 1, Wants: []wire.ServiceLoad{{Service: web.String(), Port: "http", Want: 90, WantCritical: 60, WantLow: 20}}})
		l, due := b.Loads()("beta", "gw1")
		if !due || len(l.Offers) != 1 {
			t.Fatalf("most %q: due %t, %+v", c.most, due, l)
		}
		o := l.Offers[0]
		if o.Granted != c.low || o.Granted+o.GrantedDefault != c.def || o.Granted+o.GrantedDefault+o.GrantedCritical != c.critical ||
			o.Spare != 6 || o.SpareDefault != 53 || o.SpareCritical != 26 {
			t.Errorf("most %q: offer %+v", c.most, o)
		}
		want := fmt.Sprintf(`
# HELP isthmus_gateway_granted_calls What is granted of it to peers' gateways, together, for calls of each priority and those above it.
# TYPE isthmus_gateway_granted_calls gauge
isthmus_gateway_granted_calls{port="http",priority="critical",service="web.default"} %d
isthmus_gateway_granted_calls{port="http",priority="default",service="web.default"} %d
isthmus_gateway_granted_calls{port="http",priority="low",service="web.default"} %d
`, c.critical, c.def, c.low)
		if err := testutil.GatherAndCompare(metrics, strings.NewReader(want), "isthmus_gateway_granted_calls"); err != nil {
			t.Errorf("most %q: %v", c.most, err)
		}
	}
}

// TestAnOlderPeerIsGrantedOfWhatIsForAll: it says nothing of priorities, and uses what it
// is granted for every call.
func TestAnOlderPeerIsGrantedOfWhatIsForAll(t *testing.T) {
	b, _ := graded(t, "")
	b.TakeLoad("beta", "old", wire.Load{Seq: 1, Wants: []wire.ServiceLoad{{Service: web.String(), Port: "http", Want: 40}}})
	b.TakeLoad("beta", "new", wire.Load{Seq: 1, Wants: []wire.ServiceLoad{{Service: web.String(), Port: "http", Want: 50, WantCritical: 4, WantLow: 40}}})
	loads := b.Loads()
	before, _ := loads("beta", "old")
	after, _ := loads("beta", "new")
	if len(before.Offers) != 1 || len(after.Offers) != 1 || before.Offers[0].Granted != 1 || after.Offers[0].Granted != 5 {
		t.Errorf("of 6 for all the older one, with 40 default calls, is granted %+v, and one with 4 critical and 6 default ones %+v", before.Offers, after.Offers)
	}
	// What an older one offers holds for every call.
	b.TakeLoad("beta", "old", wire.Load{Seq: 2, Offers: []wire.ServiceLoad{{Service: web.String(), Port: "http", Capacity: 90, Spare: 30, Granted: 9, Lease: time.Second}}})
	b.Refresh()
	if g := b.Evidence().Targets[target(web, "beta")].Granted; g != (route.Graded{Any: 9}) {
		t.Errorf("granted %+v", g)
	}
}
