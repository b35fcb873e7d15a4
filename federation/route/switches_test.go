package route_test

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

func switched(s route.Switches, change func(*world)) *route.Plan {
	w := newWorld().local("az1", 2).peer("b", "aws/us-east-1", time.Millisecond, 2, 2).peer("c", "gcp/x", 20*time.Millisecond, 2, 2)
	w.evidence.Switches = s
	if change != nil {
		change(w)
	}
	return w.compile()
}

func clusterOf(p *route.Plan) string {
	c, _ := p.Pick(request(0))
	if c.Status != route.OK {
		return c.Status.String()
	}
	return string(c.Target.Cluster)
}

func TestAGatewaysSwitches(t *testing.T) {
	for _, tt := range []struct {
		name   string
		s      route.Switches
		change func(*world)
		want   string
	}{
		{"none", route.Switches{}, nil, string(own)},
		{"pin to a cluster", route.Switches{Pin: "c"}, nil, "c"},
		{"pin to a region", route.Switches{Pin: "gcp/x"}, nil, "c"},
		{"pin to a cloud", route.Switches{Pin: "gcp"}, nil, "c"},
		{"pin to where the service is not", route.Switches{Pin: "azure"}, nil, string(own)},
		{"pin to what is dead", route.Switches{Pin: "c"}, func(w *world) { w.down("c") }, "no_candidate"},
		{"the policy stays law", route.Switches{Pin: "c"}, func(w *world) { w.policy(policy.Traffic{Pin: "b"}) }, "b"},
		{"failover off", route.Switches{FailoverOff: true}, func(w *world) { w.sick("az1-0", "az1-1") }, string(own)}, // in panic
		{"failover off, nothing reachable", route.Switches{FailoverOff: true, Pin: "b"}, func(w *world) { w.down("b") }, "no_candidate"},
	} {
		p := switched(tt.s, tt.change)
		if got := clusterOf(p); got != tt.want {
			t.Errorf("%s: goes to %s, want %s", tt.name, got, tt.want)
		}
		l := p.Explain(*request(0))
		if (l.Plan.Switches == nil) != (tt.s == route.Switches{}) {
			t.Errorf("%s: the ledger says %v", tt.name, l.Plan.Switches)
		}
	}
	l := switched(route.Switches{Pin: "c", FailoverOff: true}, nil).Explain(*request(0))
	if got := reasons(l); got["b"] != route.LocalPin || got[string(own)] != route.LocalPin {
		t.Errorf("%v", got)
	}
	l = switched(route.Switches{FailoverOff: true}, nil).Explain(*request(0))
	if got := reasons(l); got["b"] != route.LocalFailoverOff || got["c"] != route.LocalFailoverOff {
		t.Errorf("%v", got)
	}
	// A federation that explains a gateway's decisions knows its switches.
	e, _ := route.EvidenceFromReport(&route.Report{Switches: route.Switches{Pin: "c"}})
	if e.Switches.Pin != "c" {
		t.Error("a report's switches are no evidence")
	}
	for place, valid := range map[string]bool{"c": true, "gcp/x": true, "": false, "gcp/": false, "a/b/c": false, "A": false} {
		if got := route.CheckPlace(place) == nil; got != valid {
			t.Errorf("place %q: %v", place, got)
		}
	}
}
