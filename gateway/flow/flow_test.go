package flow_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/flow"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var pay = catalog.MustServiceName("pay.shop")

const web, batch = "spiffe://west.example.org/web", "spiffe://west.example.org/batch"

// table has one service with the given limits.
func table(l *policy.Limits) *route.Table {
	t := &route.Table{Cluster: route.Cluster{Name: "west"}, Gateways: 1, Services: []route.Service{{Name: pay}}}
	if l != nil {
		t.Services[0].Traffic = &policy.Traffic{Name: "pay", Services: []policy.ServicePattern{"pay.shop"}, Limits: l}
	}
	return t
}

func newController(t testing.TB, l *policy.Limits) (*flow.Controller, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	c, err := flow.New(flow.Options{Registerer: registry})
	if err != nil {
		t.Fatal(err)
	}
	c.SetTable(table(l))
	return c, registry
}

// calls makes n calls and returns how many were let through.
func calls(c *flow.Controller, n int, call flow.Call) (passed int, last *flow.Refusal) {
	call.Service = pay
	for range n {
		if refused := c.Admit(&call); refused != nil {
			last = refused
			continue
		}
		passed++
	}
	return passed, last
}

func TestRates(t *testing.T) {
	get, admin := policy.NewHTTPRequest("GET", "/", nil), policy.NewHTTPRequest("GET", "/Admin", nil)
	for _, c := range []struct {
		what  string
		rates []policy.RateLimit
		calls []flow.Call // ten each, in turn
		want  []int
	}{
		{"one for all", []policy.RateLimit{{Name: "all", Requests: 5}}, []flow.Call{{Caller: web}, {Caller: batch}}, []int{5, 0}},
		{"a window", []policy.RateLimit{{Name: "all", Requests: 5, Algorithm: policy.SlidingWindow}}, []flow.Call{{Caller: web}, {Caller: batch}}, []int{5, 0}},
		{"each caller", []policy.RateLimit{{Name: "each", Requests: 5, Per: []policy.LimitKey{"caller"}}}, []flow.Call{{Caller: web}, {Caller: batch}, {Caller: web}}, []int{5, 5, 0}},
		{"each cluster", []policy.RateLimit{{Name: "each", Requests: 5, Per: []policy.LimitKey{"cluster"}}}, []flow.Call{{Caller: web}, {Caller: web, From: "east"}, {Caller: batch}}, []int{5, 5, 0}},
		{"each caller of each cluster", []policy.RateLimit{{Name: "each", Requests: 5, Per: []policy.LimitKey{"cluster", "caller"}}}, []flow.Call{{Caller: web}, {Caller: web, From: "east"}, {Caller: batch}}, []int{5, 5, 5}},
		{"one cluster", []policy.RateLimit{{Name: "east", Requests: 5, Clusters: []catalog.ClusterName{"east"}}}, []flow.Call{{Caller: web}, {Caller: web, From: "east"}}, []int{10, 5}},
		{"some callers", []policy.RateLimit{{Name: "batch", Requests: 5, Callers: []policy.IDPattern{batch}}}, []flow.Call{{Caller: web}, {Caller: batch}}, []int{10, 5}},
		{"some requests", []policy.RateLimit{{Name: "admin", Requests: 5, HTTP: []policy.HTTPCondition{{PathPrefix: "/admin/"}}}}, []flow.Call{{}, {HTTP: &get}, {HTTP: &admin}}, []int{10, 10, 5}},
		{
			"the tightest of several, and what it refuses counts nowhere",
			[]policy.RateLimit{{Name: "all", Requests: 12}, {Name: "web", Requests: 5, Callers: []policy.IDPattern{web}}},
			[]flow.Call{{Caller: web}, {Caller: batch}},
			[]int{5, 7},
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			controller, _ := newController(t, &policy.Limits{Rates: c.rates})
			for i, call := range c.calls {
				passed, refused := calls(controller, 10, call)
				if passed != c.want[i] {
					t.Errorf("%s: %d of the calls of %+v pass, want %d", c.what, passed, call, c.want[i])
				}
				if refused == nil {
					continue
				}
				if refused.Reason != flow.ReasonRate || !refused.Limited() || refused.RetryAfter <= 0 || refused.RetryAfter > 2*time.Second {
					t.Errorf("%s: refused by %+v", c.what, refused)
				}
				time.Sleep(refused.RetryAfter)
				if passed, _ := calls(controller, 1, call); passed != 1 && i == 0 {
					t.Errorf("%s: refused after the time that was told", c.what)
				}
				return // time has passed: the others have room again
			}
		})
	}
}

// TestCountsOutliveATable: a new table with the same rate does not give callers a new
// budget, one with other figures applies at once, and one without it ends it.
func TestCountsOutliveATable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rate := policy.RateLimit{Name: "all", Requests: 5, IntervalMS: 60_000}
		c, _ := newController(t, &policy.Limits{Rates: []policy.RateLimit{rate}})
		calls(c, 5, flow.Call{})
		c.SetTable(table(&policy.Limits{Rates: []policy.RateLimit{rate}}))
		if n, _ := calls(c, 5, flow.Call{}); n != 0 {
			t.Errorf("%d calls pass after the same rate came anew", n)
		}
		rate.Burst = 7
		c.SetTable(table(&policy.Limits{Rates: []policy.RateLimit{rate}}))
		if n, _ := calls(c, 5, flow.Call{}); n != 2 {
			t.Errorf("%d calls pass after the burst grew by 2", n)
		}
		c.SetTable(table(nil))
		if n, _ := calls(c, 100, flow.Call{}); n != 100 {
			t.Errorf("%d calls pass without a limit", n)
		}
	})
}

// TestCallersAreBounded: a million callers do not cost the memory of a million budgets,
// and those beyond the bound still have a limit.
func TestCallersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := newController(t, &policy.Limits{Rates: []policy.RateLimit{{Name: "each", Requests: 1, Per: []policy.LimitKey{"caller"}}}})
		passed := 0
		for i := range 20_000 {
			n, _ := calls(c, 1, flow.Call{Caller: fmt.Sprint("spiffe://west.example.org/", i)})
			passed += n
		}
		if passed != 10_000+1 {
			t.Errorf("%d pass: 10000 with a budget of their own, and one of the rest", passed)
		}
		time.Sleep(2 * time.Second)
		if n, _ := calls(c, 2, flow.Call{Caller: web}); n != 1 {
			t.Errorf("%d calls of a caller pass once the others are idle", n)
		}
	})
}

// TestAttempts: breakers are of a cluster, slots of the own endpoints.
func TestAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, registry := newController(t, &policy.Limits{
			Concurrency: &policy.Concurrency{Max: 2}, Queue: &policy.Queue{NoWait: true},
			Breaker: &policy.Breaker{MaxRequests: 3, MaxPending: 2, MaxConnections: 1},
		})
		enter := func(cluster catalog.ClusterName, request bool) (flow.Pass, string) {
			p, refused := c.Enter(t.Context(), &flow.Try{Service: pay, Cluster: cluster, Own: cluster == "west", Request: request})
			if refused != nil {
				return p, refused.Reason + " " + refused.Rule
			}
			return p, ""
		}
		a, _ := enter("east", true)
		b, _ := enter("east", true)
		if _, why := enter("east", true); why != "breaker_open pending" {
			t.Errorf("a third without an answer: %q", why)
		}
		a.Answered(true)
		b.Answered(true)
		d, _ := enter("east", true)
		d.Answered(true)
		if _, why := enter("east", true); why != "breaker_open requests" {
			t.Errorf("a fourth request: %q", why)
		}
		if _, why := enter("north", true); why != "" {
			t.Errorf("another cluster: %q", why)
		}
		conn, _ := enter("east", false)
		conn.Answered(true)
		if _, why := enter("east", false); why != "breaker_open connections" {
			t.Errorf("a second connection: %q", why)
		}
		for _, p := range []*flow.Pass{&a, &b, &d, &conn, &a} { // one twice
			p.End()
		}
		one, _ := enter("west", true)
		one.Answered(true)
		two, _ := enter("west", true)
		two.Answered(true)
		if _, why := enter("west", true); why != "queue_full " {
			t.Errorf("a third request in progress here: %q", why)
		}
		if p, why := enter("west", false); why != "" {
			t.Errorf("a connection has no slot: %q", why)
		} else {
			p.End()
		}
		one.End()
		two.End()
		for _, name := range []string{"isthmus_gateway_breaker_under_way", "isthmus_gateway_concurrency_in_progress"} {
			if n := gauge(t, registry, name); n != 0 && name != "isthmus_gateway_breaker_under_way" {
				t.Errorf("%s: %v are left", name, n)
			}
		}
		if n := gauge(t, registry, "isthmus_gateway_concurrency_limit"); n != 2 {
			t.Errorf("limit %v", n)
		}
	})
}

// gauge sums a metric.
func gauge(t *testing.T, r *prometheus.Registry, name string) (sum float64) {
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.Metric {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// overloads is how often an event of the default limit was counted.
func overloads(t *testing.T, r *prometheus.Registry, event string) (sum float64) {
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			for _, l := range m.Label {
				if f.GetName() == "isthmus_gateway_overloads_total" && l.GetValue() == event {
					sum += m.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}

// TestNothingIsAllocated on a call's way through all limits.
func TestNothingIsAllocated(t *testing.T) {
	c, call, try := limited(t)
	ctx := context.Background()
	if n := testing.AllocsPerRun(1000, func() { through(ctx, t, c, call, try) }); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
	free, _ := newController(t, nil)
	free.SetTable(table(nil))
	if n := testing.AllocsPerRun(1000, func() { through(ctx, t, free, call, try) }); n != 0 {
		t.Errorf("%v allocations a call without limits", n)
	}
}

func limited(t testing.TB) (*flow.Controller, *flow.Call, *flow.Try) {
	c, _ := newController(t, &policy.Limits{
		Rates: []policy.RateLimit{
			{Name: "each", Requests: policy.MaxLimitRequests, Per: []policy.LimitKey{"caller"}},
			{Name: "west", Requests: policy.MaxLimitRequests, Clusters: []catalog.ClusterName{"west"}, Algorithm: policy.SlidingWindow},
		},
		Concurrency: &policy.Concurrency{Adaptive: true}, Breaker: &policy.Breaker{MaxRequests: 100},
	})
	request := policy.NewHTTPRequest("GET", "/", nil)
	return c, &flow.Call{Service: pay, Caller: web, HTTP: &request}, &flow.Try{Service: pay, Cluster: "west", Own: true, Request: true}
}

func through(ctx context.Context, t testing.TB, c *flow.Controller, call *flow.Call, try *flow.Try) {
	if refused := c.Admit(call); refused != nil {
		t.Fatal(refused)
	}
	p, refused := c.Enter(ctx, try)
	if refused != nil {
		t.Fatal(refused)
	}
	p.Answered(true)
	p.End()
}

func BenchmarkCall(b *testing.B) {
	c, call, try := limited(b)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		through(ctx, b, c, call, try)
	}
}

func BenchmarkUnlimited(b *testing.B) {
	c, _ := newController(b, nil)
	call, try, ctx := &flow.Call{Service: pay, Caller: web}, &flow.Try{Service: pay, Cluster: "west", Own: true, Request: true}, context.Background()
	b.ReportAllocs()
	for b.Loop() {
		through(ctx, b, c, call, try)
	}
}
