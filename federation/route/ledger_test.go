package route_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

var update = flag.Bool("update", false, "rewrite testdata")

// The JSON of a ledger is part of the API: a change of it shows here.
func TestLedgerJSON(t *testing.T) {
	w := newWorld().local("az1", 3).sick("az1-0", "az1-1").
		peer("gcp-central", "gcp/us-central1", 31*time.Millisecond, 2, 2).
		peer("onprem", "onprem", 88*time.Millisecond, 3, 3).
		peer("idle", "azure", 20*time.Millisecond, 0, 0)
	w.target("onprem", route.TargetEvidence{EjectedUntil: epoch.Add(4 * time.Second), Reason: "5 failures in a row"})
	now := epoch.UnixNano()
	for c, d := range map[*route.Counters]time.Duration{
		w.live.Target(target(own)): 2 * time.Millisecond, w.live.Target(target("gcp-central")): 35 * time.Millisecond,
		w.live.Endpoint(endpointKey("az1-2")): 2 * time.Millisecond,
	} {
		c.Begin(now)
		c.End(now, d, true)
		c.Begin(now)
	}
	r := *request(1)
	r.Tried.Add(own, "az1-1")
	got, err := json.MarshalIndent(w.compile().Explain(r), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "ledger.json")
	if *update {
		if err := os.WriteFile(path, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got)+"\n" != string(want) {
		t.Errorf("the ledger is\n%s", got)
	}
}

func TestWhyAndOtherwise(t *testing.T) {
	for _, tt := range []struct {
		name      string
		world     func() *world
		request   func(*route.Request)
		why       []string
		otherwise string
	}{
		{
			name:      "local and healthy",
			world:     func() *world { return newWorld().local("az1", 2).peer("b", "gcp", 5*time.Millisecond, 1, 1) },
			why:       []string{"billing.default port http goes to aws-east zone az1", "2 of 2 endpoints ready and takes all calls", "of two draws"},
			otherwise: "b would be chosen if less than 71.4 %",
		},
		{
			name: "failover",
			world: func() *world {
				return newWorld().local("az1", 2).sick("az1-0", "az1-1").peer("b", "gcp", 5*time.Millisecond, 1, 1)
			},
			why:       []string{"goes to b:", "tier 1 (elsewhere) has 1 of 1 endpoints ready and takes all calls, since no nearer tier can"},
			otherwise: "aws-east zone az1 would be chosen if one of its 2 endpoints there became ready (2 unhealthy)",
		},
		{
			name: "link down",
			world: func() *world {
				return newWorld().peer("b", "gcp", 5*time.Millisecond, 1, 1).peer("c", "gcp", 90*time.Millisecond, 1, 1).down("b")
			},
			why:       []string{"goes to c:"},
			otherwise: "b would be chosen if a link to it came up",
		},
		{
			name: "the slower of two",
			world: func() *world {
				return newWorld().peer("b", "gcp", 5*time.Millisecond, 1, 1).peer("c", "gcp", 9*time.Millisecond, 1, 1)
			},
			why:       []string{"goes to b:", "of two draws, b is predicted to answer in 5ms and c in 9ms"},
			otherwise: "c would be chosen if its predicted answer of 9ms were below 5ms",
		},
		{
			name: "tried",
			world: func() *world {
				return newWorld().peer("b", "gcp", 5*time.Millisecond, 1, 1).peer("c", "azure", 90*time.Millisecond, 1, 1)
			},
			request:   func(r *route.Request) { r.Tried.Add("b", "") },
			why:       []string{"goes to c: tier 0 was drawn, but this request tried all that it has"},
			otherwise: "b would be chosen if this request had not tried it already",
		},
		{
			name: "ruled out",
			world: func() *world {
				return newWorld().peer("b", "gcp", time.Millisecond, 1, 1).peer("c", "gcp", time.Millisecond, 1, 1).
					policy(policy.Traffic{Pin: "c"})
			},
			why:       []string{"goes to c:"},
			otherwise: "b would be a candidate if the traffic policy did not pin the service elsewhere",
		},
		{
			name:    "pinned by the request",
			world:   func() *world { return newWorld().local("az1", 1).peer("b", "gcp", time.Millisecond, 1, 1) },
			request: func(r *route.Request) { r.Pin = "b" },
			why:     []string{"goes to b: the request is pinned to it"},
		},
		{
			name:      "nothing",
			world:     func() *world { return newWorld().peer("b", "gcp", time.Millisecond, 0, 2) },
			why:       []string{"goes to b:", "0 of 2 endpoints ready, below the panic threshold"},
			otherwise: "",
		},
		{
			name:    "unknown service",
			world:   newWorld,
			request: func(r *route.Request) { r.Service = catalog.MustServiceName("x.y") },
			why:     []string{"x.y is neither hosted by aws-east nor imported from a peer"},
		},
		{name: "nobody offers it", world: newWorld, why: []string{"no cluster offers it here"}},
		{
			name:    "unknown port",
			world:   newWorld,
			request: func(r *route.Request) { r.Port = "grpc" },
			why:     []string{`billing.default has no port "grpc" (it has http)`},
		},
		{
			name: "probation",
			world: func() *world {
				return newWorld().peer("b", "gcp", time.Millisecond, 1, 1).peer("c", "gcp", time.Millisecond, 1, 1).
					target("b", route.TargetEvidence{EjectedUntil: epoch})
			},
			why:       []string{"goes to b: it was ejected and this is the one request that tests it"},
			otherwise: "c would be chosen if",
		},
		{
			name: "ramp ignored",
			world: func() *world {
				return newWorld().peer("b", "gcp", time.Millisecond, 1, 1).target("b", route.TargetEvidence{Withheld: 1})
			},
			why: []string{"its ramp is ignored, there is nowhere else to go"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := request(0)
			if tt.request != nil {
				tt.request(r)
			}
			l := tt.world().compile().Explain(*r)
			for _, part := range tt.why {
				if !strings.Contains(l.Why, part) {
					t.Errorf("why is %q, lacks %q", l.Why, part)
				}
			}
			if !strings.HasPrefix(l.Otherwise, tt.otherwise) || tt.otherwise == "" && l.Otherwise != "" {
				t.Errorf("otherwise is %q, want %q", l.Otherwise, tt.otherwise)
			}
		})
	}
}

func TestExplainTakesNothing(t *testing.T) {
	w := newWorld().local("az1", 3).policy(policy.Traffic{Algorithm: policy.RoundRobin})
	w.evidence.Endpoints[endpointKey("az1-0")] = route.EndpointEvidence{EjectedUntil: epoch}
	p := w.compile()
	for range 10 {
		if l := p.Explain(*request(0)); l.Mode != route.Probation {
			t.Fatalf("explaining took the probation: %s", l.Mode)
		}
	}
	if c, _ := p.Pick(request(0)); c.Mode != route.Probation {
		t.Error("pick found no probation left")
	}
	next := p.Explain(*request(1)).Choice.Endpoint
	for range 3 {
		if got := p.Explain(*request(1)).Choice.Endpoint; got != next {
			t.Errorf("explaining took a turn: %s after %s", got, next)
		}
	}
	if c, _ := p.Pick(request(1)); c.Endpoint.ID != next {
		t.Errorf("pick took %s, explain foresaw %s", c.Endpoint.ID, next)
	}
}

func TestLedgerListsABoundedNumberOfEndpoints(t *testing.T) {
	l := newWorld().local("az1", 300).compile().Explain(*request(0))
	c := l.Tiers[0].Candidates[0]
	if len(c.Endpoints) != route.MaxLedgerEndpoints || c.Omitted != 300-route.MaxLedgerEndpoints {
		t.Errorf("%d endpoints are listed, %d omitted", len(c.Endpoints), c.Omitted)
	}
}
