package route_test

import (
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

func authorized() *world {
	w := newWorld().local("az1", 1).peer("b", "gcp", time.Millisecond, 1, 1).peer("c", "gcp", time.Millisecond, 0, 0)
	w.service().ExportedTo = []catalog.ClusterName{"b"}
	only := route.Service{Name: catalog.MustServiceName("imported"), Ports: w.service().Ports, Remote: w.service().Remote}
	private := route.Service{Name: catalog.MustServiceName("private"), Ports: w.service().Ports, Endpoints: w.service().Endpoints}
	w.table.Services = append(w.table.Services, only, private)
	w.table.Intentions = []policy.Intention{
		{Name: "allow-b", Services: []policy.ServicePattern{"billing.default"}, Callers: []policy.IDPattern{"spiffe://b.test/*", "spiffe://aws.test/web"}, Action: policy.Allow},
		{Name: "deny-bad", Services: []policy.ServicePattern{"billing.default"}, Callers: []policy.IDPattern{"spiffe://b.test/bad/*"}, Action: policy.Deny},
	}
	return w
}

func TestAuthorizeInbound(t *testing.T) {
	p := authorized().compile()
	for _, tt := range []struct {
		name    string
		peer    catalog.ClusterName
		service catalog.ServiceName
		caller  string
		want    route.Verdict
	}{
		{"allowed", "b", billing, "spiffe://b.test/web", route.Verdict{Allowed: true, Reason: route.ReasonAllowed, Rule: "allow-b"}},
		{"denied", "b", billing, "spiffe://b.test/bad/one", route.Verdict{Reason: route.ReasonDeniedByIntention, Rule: "deny-bad"}},
		{"not its caller", "b", billing, "spiffe://aws.test/web", route.Verdict{Reason: route.ReasonCallerNotAsserted}},
		{"no caller", "b", billing, "", route.Verdict{Reason: route.ReasonCallerInvalid}},
		{"no SPIFFE ID", "b", billing, "web", route.Verdict{Reason: route.ReasonCallerInvalid}},
		{"exported to another", "c", billing, "spiffe://c.test/web", route.Verdict{Reason: route.ReasonNotExported}},
		{"exported to nobody", "b", catalog.MustServiceName("private"), "spiffe://b.test/web", route.Verdict{Reason: route.ReasonNotExported}},
		{"imported only: never routed on", "b", catalog.MustServiceName("imported"), "spiffe://b.test/web", route.Verdict{Reason: route.ReasonUnknownService}},
		{"unknown service", "b", catalog.MustServiceName("x"), "spiffe://b.test/web", route.Verdict{Reason: route.ReasonUnknownService}},
		{"unknown peer", "z", billing, "spiffe://b.test/web", route.Verdict{Reason: route.ReasonUnknownPeer}},
		{"the federation", "c", catalog.FederationService(own), "", route.Verdict{Allowed: true, Reason: route.ReasonAllowed}},
		{"another federation", "c", catalog.FederationService("b"), "", route.Verdict{Reason: route.ReasonUnknownService}},
		{"the federation for a stranger", "z", catalog.FederationService(own), "", route.Verdict{Reason: route.ReasonUnknownPeer}},
	} {
		if got := p.AuthorizeInbound(tt.peer, &route.Ask{Service: tt.service, Caller: tt.caller}); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
	w := authorized()
	w.table.Intentions = nil
	if got := w.compile().AuthorizeInbound("b", &route.Ask{Service: billing, Caller: "spiffe://b.test/web"}); got.Allowed || got.Reason != route.ReasonDefaultDeny {
		t.Errorf("without intentions: %+v", got)
	}
}

func TestAuthorizeOutbound(t *testing.T) {
	p := authorized().compile()
	for _, tt := range []struct {
		name    string
		service catalog.ServiceName
		caller  string
		want    route.Verdict
	}{
		{"allowed", billing, "spiffe://aws.test/web", route.Verdict{Allowed: true, Reason: route.ReasonAllowed, Rule: "allow-b"}},
		{"covered, not allowed", billing, "spiffe://aws.test/other", route.Verdict{Reason: route.ReasonDefaultDeny}},
		{"covered, no caller", billing, "", route.Verdict{Reason: route.ReasonDefaultDeny}},
		{"not covered", catalog.MustServiceName("private"), "", route.Verdict{Allowed: true, Reason: route.ReasonAllowed}},
		{"imported: the far end decides", catalog.MustServiceName("imported"), "spiffe://aws.test/other", route.Verdict{Allowed: true, Reason: route.ReasonAllowed}},
		{"not imported", catalog.MustServiceName("x"), "spiffe://aws.test/web", route.Verdict{Reason: route.ReasonUnknownService}},
		{"no SPIFFE ID", billing, "web", route.Verdict{Reason: route.ReasonCallerInvalid}},
		{"reserved", catalog.FederationService("b"), "spiffe://aws.test/web", route.Verdict{Reason: route.ReasonUnknownService}},
	} {
		if got := p.AuthorizeOutbound(&route.Ask{Service: tt.service, Caller: tt.caller}); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// TestAPeersPriorityIsBelievedUpToItsBound: what a peer's gateway claims of a call.
func TestAPeersPriorityIsBelievedUpToItsBound(t *testing.T) {
	const critical, def, low = route.PriorityCritical, route.PriorityDefault, route.PriorityLow
	for _, tt := range []struct {
		most policy.CallPriority
		want map[route.Priority]route.Priority
	}{
		{"", map[route.Priority]route.Priority{critical: critical, def: def, low: low}},
		{policy.CriticalPriority, map[route.Priority]route.Priority{critical: critical, def: def, low: low}},
		{policy.DefaultPriority, map[route.Priority]route.Priority{critical: def, def: def, low: low}},
		{policy.LowPriority, map[route.Priority]route.Priority{critical: low, def: low, low: low}},
	} {
		w := authorized()
		for i := range w.table.Peers {
			if w.table.Peers[i].Name == "b" {
				w.table.Peers[i].MaxPriority = tt.most
			}
		}
		p := w.compile()
		for claimed, want := range tt.want {
			if got := p.Believed("b", claimed); got != want {
				t.Errorf("most %q: a call that is claimed to be %s is %s, want %s", tt.most, claimed, got, want)
			}
			if got := p.Believed("c", claimed); got != claimed {
				t.Errorf("a peer without a bound: %s is %s", claimed, got)
			}
		}
	}
	w := authorized()
	w.table.Peers[0].MaxPriority = "urgent"
	if err := w.table.Validate(); err == nil || !strings.Contains(err.Error(), "max_priority") {
		t.Errorf("a bound that is no priority: %v", err)
	}
}
