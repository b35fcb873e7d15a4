package attempt_test

import (
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// change compiles the board's plan anew, of a table with another service.
func (f *fixed) change(change func(*route.Service)) {
	t := *f.plan.Table()
	t.Services = slices.Clone(t.Services)
	change(&t.Services[0])
	e := &route.Evidence{Now: time.Now(), Links: make(map[catalog.ClusterName]route.LinkEvidence)}
	for i := range t.Peers {
		e.Links[t.Peers[i].Name] = route.LinkEvidence{Up: true, Since: time.Now().Add(-time.Hour), RTT: 10 * time.Millisecond}
	}
	f.plan = route.Compile(&t, e, f.live)
}

func (f *fixed) traffic(change func(*policy.Traffic)) {
	f.change(func(s *route.Service) {
		t := *s.Traffic
		change(&t)
		s.Traffic = &t
	})
}

// The first key that a call has counts, and travels with the call.
func TestKeysOfCalls(t *testing.T) {
	sticky := []policy.StickyKey{
		{Header: "x-user"}, {Cookie: &policy.StickyCookie{Name: "sid"}}, {Source: policy.SourceAddress}, {Source: policy.SourceCaller},
	}
	request := func(fields http.Header) *policy.HTTPRequest {
		r := policy.NewHTTPRequest("GET", "/", fields)
		return &r
	}
	for name, tc := range map[string]struct {
		http   *policy.HTTPRequest
		source string
		want   uint64
	}{
		"header":              {request(http.Header{"X-User": {" ann "}, "Cookie": {"sid=1"}}), "10.0.0.1", route.HashKey("header", "ann")},
		"cookie":              {request(http.Header{"Cookie": {"a=b;sidx=2; sid=\"1\" ; sid=9"}}), "10.0.0.1", route.HashKey("cookie", "1")},
		"cookie of two lines": {request(http.Header{"Cookie": {"a=b", "sid=7"}}), "", route.HashKey("cookie", "7")},
		"address":             {request(http.Header{}), "10.0.0.1", route.HashKey("address", "10.0.0.1")},
		"address, no request": {nil, "10.0.0.1", route.HashKey("address", "10.0.0.1")},
		"caller":              {nil, "", route.HashKey("caller", call.Caller)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBoard(0, "b", "c")
				b.traffic(func(p *policy.Traffic) { p.Algorithm, p.Sticky = policy.Maglev, sticky })
				c := call
				c.HTTP, c.Source = tc.http, tc.source
				c.Hash, c.Subset = 5, "forged" // what only peers' gateways say
				s, err := newRouter(t, b, true).Start(c)
				if err != nil {
					t.Fatal(err)
				}
				a, err := s.Next()
				if err != nil {
					t.Fatal(err)
				}
				defer a.End()
				asked := a.Record.Request()
				if h := a.Header("", time.Time{}); h.Hash != tc.want || asked.Hash != tc.want || asked.Subset != "" {
					t.Errorf("hash %d, header %d, want %d", asked.Hash, h.Hash, tc.want)
				}
				answer := http.Header{}
				if s.SetCookie(answer); len(answer) > 0 {
					t.Errorf("a cookie that is only read is set: %v", answer)
				}
			})
		})
	}
}

func TestASubsetTravelsByItsLabels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard(0, "b", "c")
		b.traffic(func(p *policy.Traffic) {
			p.Subsets = &policy.Subsets{Header: "X-Version", List: []policy.Subset{{Name: "next", Labels: map[string]string{"version": "v2", "tier": "a"}}}}
		})
		b.change(func(s *route.Service) {
			s.Remote = slices.Clone(s.Remote)
			s.Remote[1].Rows = []catalog.SummaryRow{{Port: "http", Subset: "tier=a,version=v2", Ready: 1, Total: 1}}
		})
		c := call
		r := policy.NewHTTPRequest("GET", "/", http.Header{"X-Version": {"next"}})
		c.HTTP = &r
		s, err := newRouter(t, b, true).Start(c)
		if err != nil {
			t.Fatal(err)
		}
		a, err := s.Next()
		if err != nil {
			t.Fatal(err)
		}
		if h := a.Header("", time.Time{}); h.Subset != "tier=a,version=v2" || a.Choice.Target.Cluster != "c" {
			t.Errorf("%s, subset %q", a.Choice.Target.Cluster, h.Subset)
		}
		// That the part is not there says nothing of the service.
		if err := a.Fail(t.Context(), refused(wire.NoEndpoint), attempt.Never); err == nil || b.outcomes[0] != route.Refusal {
			t.Errorf("%v, observed %v", err, b.outcomes)
		}
	})
}
