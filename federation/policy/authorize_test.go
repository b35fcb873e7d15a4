package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"pgregory.net/rapid"
)

func TestAuthorize(t *testing.T) {
	rules := []policy.Intention{
		{Name: "shop-open", Services: []policy.ServicePattern{"*.shop"}, Callers: []policy.IDPattern{"spiffe://aws/*"}, Action: policy.Allow},
		{Name: "no-batch", Services: []policy.ServicePattern{"*"}, Callers: []policy.IDPattern{"spiffe://aws/batch/*"}, Action: policy.Deny},
		{Name: "billing", Services: []policy.ServicePattern{"billing.shop"}, Callers: []policy.IDPattern{"spiffe://aws/web", "spiffe://gcp/web"}, Action: policy.Allow},
		{Name: "future", Services: []policy.ServicePattern{"web.shop"}, Callers: []policy.IDPattern{"spiffe://aws/odd"}, Action: "audit"},
	}
	closed := []policy.Intention{
		{Name: "db", Services: []policy.ServicePattern{"db.data"}, Callers: []policy.IDPattern{"spiffe://aws/web"}, Action: policy.Allow},
	}
	aws := []policy.IDPattern{"spiffe://aws/*"}
	for name, tc := range map[string]struct {
		rules   []policy.Intention
		service string
		caller  string
		peer    bool
		asserts []policy.IDPattern
		want    policy.Verdict
	}{
		"peer, allowed by exact before wildcard name": {rules, "billing.shop", "spiffe://aws/web", true, aws, policy.Verdict{Allowed: true, Reason: policy.ReasonAllowed, Rule: "billing"}},
		"peer, allowed by namespace":                  {rules, "web.shop", "spiffe://aws/x/y", true, aws, policy.Verdict{Allowed: true, Reason: policy.ReasonAllowed, Rule: "shop-open"}},
		"peer, deny wins over allow":                  {rules, "web.shop", "spiffe://aws/batch/x", true, aws, policy.Verdict{Reason: policy.ReasonDeniedByIntention, Rule: "no-batch"}},
		"peer, nothing matches":                       {rules, "web.other", "spiffe://aws/web", true, aws, policy.Verdict{Reason: policy.ReasonDefaultDeny}},
		"peer, no rules at all":                       {nil, "web.shop", "spiffe://aws/web", true, aws, policy.Verdict{Reason: policy.ReasonDefaultDeny}},
		"peer, unknown action denies":                 {rules, "web.shop", "spiffe://aws/odd", true, aws, policy.Verdict{Reason: policy.ReasonDeniedByIntention, Rule: "future"}},
		"peer asserts a foreign caller":               {rules, "billing.shop", "spiffe://gcp/web", true, aws, policy.Verdict{Reason: policy.ReasonCallerNotAsserted}},
		"peer asserts without a list":                 {rules, "billing.shop", "spiffe://aws/web", true, nil, policy.Verdict{Reason: policy.ReasonCallerNotAsserted}},
		"peer asserts no caller":                      {rules, "billing.shop", "", true, aws, policy.Verdict{Reason: policy.ReasonCallerNotAsserted}},
		"peer asks for a federation":                  {rules, "federation.aws", "spiffe://aws/web", true, aws, policy.Verdict{Reason: policy.ReasonDefaultDeny}},
		"own, service without intentions":             {closed, "web.shop", "spiffe://aws/web", false, nil, policy.Verdict{Allowed: true, Reason: policy.ReasonAllowed}},
		"own, no caller, no intentions":               {closed, "web.shop", "", false, nil, policy.Verdict{Allowed: true, Reason: policy.ReasonAllowed}},
		"own, covered and allowed":                    {closed, "db.data", "spiffe://aws/web", false, nil, policy.Verdict{Allowed: true, Reason: policy.ReasonAllowed, Rule: "db"}},
		"own, covered and not allowed":                {closed, "db.data", "spiffe://aws/other", false, nil, policy.Verdict{Reason: policy.ReasonDefaultDeny}},
		"own, covered and no caller":                  {closed, "db.data", "", false, nil, policy.Verdict{Reason: policy.ReasonDefaultDeny}},
		"own, denied":                                 {rules, "web.shop", "spiffe://aws/batch/x", false, nil, policy.Verdict{Reason: policy.ReasonDeniedByIntention, Rule: "no-batch"}},
		"own, a deny for all covers every service":    {rules, "web.other", "spiffe://gcp/web", false, nil, policy.Verdict{Reason: policy.ReasonDefaultDeny}},
	} {
		t.Run(name, func(t *testing.T) {
			req := policy.AuthzRequest{Service: catalog.MustServiceName(tc.service), FromPeer: tc.peer, PeerAsserts: tc.asserts}
			if tc.caller != "" {
				req.Caller = spiffeid.RequireFromString(tc.caller)
			}
			if got := policy.Authorize(tc.rules, req); got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
			reversed := slices.Clone(tc.rules)
			slices.Reverse(reversed)
			if got := policy.Authorize(reversed, req); got != tc.want {
				t.Errorf("rules reversed: got %+v, want %+v", got, tc.want)
			}
		})
	}
}

// oracle is the definition of an intention read literally, one rule after the
// other.
func oracle(rules []policy.Intention, req policy.AuthzRequest) policy.Verdict {
	if req.FromPeer && !slices.ContainsFunc(req.PeerAsserts, func(p policy.IDPattern) bool { return p.Match(req.Caller) }) {
		return policy.Verdict{Reason: policy.ReasonCallerNotAsserted}
	}
	if req.Service.IsFederation() {
		return policy.Verdict{Reason: policy.ReasonDefaultDeny}
	}
	covered := false
	first := map[bool]string{}
	for _, in := range rules {
		for _, s := range in.Services {
			if !s.Match(req.Service) {
				continue
			}
			covered = true
			for _, c := range in.Callers {
				allow := in.Action == policy.Allow
				if c.Match(req.Caller) && (first[allow] == "" || in.Name < first[allow]) {
					first[allow] = in.Name
				}
			}
		}
	}
	switch {
	case first[false] != "":
		return policy.Verdict{Reason: policy.ReasonDeniedByIntention, Rule: first[false]}
	case first[true] != "":
		return policy.Verdict{Allowed: true, Reason: policy.ReasonAllowed, Rule: first[true]}
	case req.FromPeer || covered:
		return policy.Verdict{Reason: policy.ReasonDefaultDeny}
	}
	return policy.Verdict{Allowed: true, Reason: policy.ReasonAllowed}
}

var (
	someServices = []string{"a.x", "b.x", "a.y", "b.y", "federation.x"}
	somePatterns = []policy.ServicePattern{"*", "*.x", "*.y", "a.x", "b.x", "a.y"}
	someIDs      = []policy.IDPattern{"spiffe://t/*", "spiffe://t/a", "spiffe://t/a/*", "spiffe://t/a/b", "spiffe://t/ab", "spiffe://u/*", "spiffe://u/a"}
	someCallers  = []string{"", "spiffe://t", "spiffe://t/a", "spiffe://t/a/b", "spiffe://t/ab", "spiffe://t/a/b/c", "spiffe://u/a", "spiffe://v/a"}
)

func drawIntentions(t *rapid.T) []policy.Intention {
	n := rapid.IntRange(0, 6).Draw(t, "rules")
	out := make([]policy.Intention, n)
	for i := range out {
		out[i] = policy.Intention{
			Name:     fmt.Sprintf("r%d", i),
			Services: rapid.SliceOfNDistinct(rapid.SampledFrom(somePatterns), 1, 3, rapid.ID).Draw(t, "services"),
			Callers:  rapid.SliceOfNDistinct(rapid.SampledFrom(someIDs), 1, 3, rapid.ID).Draw(t, "callers"),
			Action:   rapid.SampledFrom([]policy.Action{policy.Allow, policy.Allow, policy.Deny}).Draw(t, "action"),
		}
	}
	return rapid.Permutation(out).Draw(t, "order")
}

func TestAuthorizerAgreesWithTheDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := drawIntentions(t)
		a := policy.NewAuthorizer(rules)
		for _, s := range someServices {
			for _, c := range someCallers {
				for _, peer := range []bool{false, true} {
					req := policy.AuthzRequest{Service: catalog.MustServiceName(s), FromPeer: peer}
					if c != "" {
						req.Caller = spiffeid.RequireFromString(c)
					}
					if peer {
						req.PeerAsserts = []policy.IDPattern{"spiffe://t/*"}
					}
					if got, want := a.Authorize(req), oracle(rules, req); got != want {
						t.Fatalf("%s calls %s (peer %v): got %+v, want %+v", c, s, peer, got, want)
					}
				}
			}
		}
	})
}

// A peer must not be able to make one question costly: the longest valid caller
// with the most segments costs one pass over its bytes.
func TestAuthorizeDoesNotAllocate(t *testing.T) {
	a := policy.NewAuthorizer(manyIntentions(1000))
	deep := spiffeid.RequireFromString("spiffe://td" + strings.Repeat("/a", (policy.MaxIDLen-len("spiffe://td"))/2))
	for _, caller := range []spiffeid.ID{deep, spiffeid.RequireFromString("spiffe://td7/ns/7/web")} {
		req := policy.AuthzRequest{Service: catalog.MustServiceName("s7.n7"), Caller: caller, FromPeer: true, PeerAsserts: []policy.IDPattern{"spiffe://td7/*", "spiffe://td/*"}}
		if n := testing.AllocsPerRun(100, func() { a.Authorize(req) }); n != 0 {
			t.Errorf("Authorize(%.40s...) makes %v allocations, want 0", caller, n)
		}
	}
}

func manyIntentions(n int) []policy.Intention {
	out := make([]policy.Intention, n)
	for i := range out {
		out[i] = policy.Intention{Name: fmt.Sprintf("rule-%05d", i), Action: policy.Allow}
		switch i % 10 {
		case 0:
			out[i].Services = []policy.ServicePattern{policy.ServicePattern(fmt.Sprintf("*.n%d", i%500))}
		case 1:
			out[i].Services, out[i].Action = []policy.ServicePattern{"*"}, policy.Deny
		default:
			out[i].Services = []policy.ServicePattern{policy.ServicePattern(fmt.Sprintf("s%d.n%d", i, i%500))}
		}
		out[i].Callers = []policy.IDPattern{policy.IDPattern(fmt.Sprintf("spiffe://td%d/ns/%d/*", i%20, i))}
	}
	return out
}

func BenchmarkAuthorize10000(b *testing.B) {
	a := policy.NewAuthorizer(manyIntentions(10_000))
	req := policy.AuthzRequest{
		Service:     catalog.MustServiceName("s7777.n277"),
		Caller:      spiffeid.RequireFromString("spiffe://td17/ns/7777/web"),
		FromPeer:    true,
		PeerAsserts: []policy.IDPattern{"spiffe://td17/*"},
	}
	if v := a.Authorize(req); !v.Allowed {
		b.Fatal(v)
	}
	b.ReportAllocs()
	for b.Loop() {
		a.Authorize(req)
	}
}

// The rule names the parent of the longest ID that there is, so that the trie is
// walked to its end.
func BenchmarkAuthorizeLongestCaller(b *testing.B) {
	parent := "spiffe://td17" + strings.Repeat("/a", (policy.MaxIDLen-len("spiffe://td17"))/2-1)
	rules := append(manyIntentions(10_000), policy.Intention{
		Name: "deep", Services: []policy.ServicePattern{"*"}, Callers: []policy.IDPattern{policy.IDPattern(parent + "/*")}, Action: policy.Allow,
	})
	a := policy.NewAuthorizer(rules)
	req := policy.AuthzRequest{
		Service:     catalog.MustServiceName("s7777.n277"),
		Caller:      spiffeid.RequireFromString(parent + "/a"),
		FromPeer:    true,
		PeerAsserts: []policy.IDPattern{"spiffe://td17/*"},
	}
	if v := a.Authorize(req); v.Rule != "deep" {
		b.Fatal(v)
	}
	b.ReportAllocs()
	for b.Loop() {
		a.Authorize(req)
	}
}

func BenchmarkNewAuthorizer10000(b *testing.B) {
	rules := manyIntentions(10_000)
	b.ReportAllocs()
	for b.Loop() {
		policy.NewAuthorizer(rules)
	}
}
