package policy_test

import (
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// limited is a traffic policy with the given limits.
func limited(l policy.Limits) policy.Traffic {
	return policy.Traffic{Name: "pay", Services: []policy.ServicePattern{"pay.shop"}, Limits: &l}
}

func TestLimitsAreChecked(t *testing.T) {
	ok := policy.RateLimit{Name: "each", Requests: 10}
	with := func(change func(*policy.RateLimit)) policy.Limits {
		r := ok
		change(&r)
		return policy.Limits{Rates: []policy.RateLimit{r}}
	}
	for _, c := range []struct {
		limits policy.Limits
		want   string // a part of the error; "" is none
	}{
		{policy.Limits{Rates: []policy.RateLimit{ok}}, ""},
		{policy.Limits{Concurrency: &policy.Concurrency{Adaptive: true}, Queue: new(policy.Queue)}, ""},
		{policy.Limits{Concurrency: &policy.Concurrency{Max: 10}, Queue: &policy.Queue{NoWait: true}, Breaker: &policy.Breaker{MaxPending: 3}}, ""},
		{policy.Limits{}, "limits.rates"},
		{policy.Limits{Rates: []policy.RateLimit{ok, ok}}, "limits.rates[1].name"},
		{with(func(r *policy.RateLimit) { r.Name = "Each" }), "limits.rates[0].name"},
		{with(func(r *policy.RateLimit) { r.Requests = 0 }), "limits.rates[0].requests"},
		{with(func(r *policy.RateLimit) { r.IntervalMS = 9 }), "limits.rates[0].interval_ms"},
		{with(func(r *policy.RateLimit) { r.Algorithm = "leaky" }), "limits.rates[0].algorithm"},
		{with(func(r *policy.RateLimit) { r.Scope = "world" }), "limits.rates[0].scope"},
		{with(func(r *policy.RateLimit) { r.Per = []policy.LimitKey{"path"} }), "limits.rates[0].per[0]"},
		{with(func(r *policy.RateLimit) { r.Per = []policy.LimitKey{"caller", "caller"} }), "limits.rates[0].per[1]"},
		{with(func(r *policy.RateLimit) { r.Callers = []policy.IDPattern{"web"} }), "limits.rates[0].callers[0]"},
		{with(func(r *policy.RateLimit) { r.Clusters = []catalog.ClusterName{"West!"} }), "limits.rates[0].clusters[0]"},
		{with(func(r *policy.RateLimit) { r.HTTP = []policy.HTTPCondition{{}} }), "limits.rates[0].http[0].methods"},
		{with(func(r *policy.RateLimit) { r.Algorithm, r.Burst = policy.SlidingWindow, 5 }), "limits.rates[0].burst"},
		{policy.Limits{Queue: new(policy.Queue)}, "limits.queue"},
		{policy.Limits{Breaker: new(policy.Breaker)}, "limits.breaker"},
		{policy.Limits{Concurrency: new(policy.Concurrency)}, "limits.concurrency.max"},
		{policy.Limits{Concurrency: &policy.Concurrency{Max: 5, Floor: 1}}, "limits.concurrency.floor"},
		{policy.Limits{Concurrency: &policy.Concurrency{Adaptive: true, Max: 5, Floor: 6}}, "limits.concurrency.floor"},
		{policy.Limits{Concurrency: &policy.Concurrency{Max: 5}, Queue: &policy.Queue{TargetMS: 50, IntervalMS: 20}}, "limits.queue.interval_ms"},
		{policy.Limits{Concurrency: &policy.Concurrency{Max: 5}, Queue: &policy.Queue{Length: 5, NoWait: true}}, "limits.queue.length"},
	} {
		err := limited(c.limits).Validate()
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%+v: %v", c.limits, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%+v: error %v, want one of %s", c.limits, err, c.want)
		}
	}
}

func TestRateMatcher(t *testing.T) {
	get := policy.NewHTTPRequest("GET", "/pay/1", nil)
	other := policy.NewHTTPRequest("GET", "/PAY/1", nil)
	root := policy.NewHTTPRequest("GET", "/", nil)
	rate := policy.RateLimit{
		Callers: []policy.IDPattern{"spiffe://west.example.org/web", "spiffe://east.example.org/*"}, Clusters: []catalog.ClusterName{"west"},
		HTTP: []policy.HTTPCondition{{PathPrefix: "/pay/"}},
	}
	m := policy.NewRateMatcher(&rate)
	for _, c := range []struct {
		caller  string
		from    catalog.ClusterName
		request *policy.HTTPRequest
		want    bool
	}{
		{"spiffe://west.example.org/web", "west", &get, true},
		{"spiffe://east.example.org/a/b", "west", &get, true},
		{"spiffe://west.example.org/web", "west", &other, true}, // no way around
		{"spiffe://west.example.org/web2", "west", &get, false},
		{"spiffe://east.example.org/", "west", &get, false},
		{"spiffe://west.example.org/web", "east", &get, false},
		{"spiffe://west.example.org/web", "west", &root, false},
		{"spiffe://west.example.org/web", "west", nil, false},
	} {
		if got := m.Match(c.caller, c.from, c.request); got != c.want {
			t.Errorf("%s from %s %v: %v", c.caller, c.from, c.request, got)
		}
	}
	if n := testing.AllocsPerRun(100, func() { m.Match("spiffe://east.example.org/a/b", "west", &get) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if !policy.NewRateMatcher(new(policy.RateLimit)).Match("", "", nil) {
		t.Error("a rate without conditions counts every call")
	}
}
