package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"pgregory.net/rapid"
)

func TestMostExactRuleWinsThenTheFirstName(t *testing.T) {
	ix := policy.NewIndex(policy.Set{
		Traffic: []policy.Traffic{
			{Name: "z-any", Services: []policy.ServicePattern{"*"}, Pin: "any"},
			{Name: "b-shop", Services: []policy.ServicePattern{"*.shop"}, Pin: "b"},
			{Name: "a-shop", Services: []policy.ServicePattern{"*.shop"}, Pin: "a"},
			{Name: "web", Services: []policy.ServicePattern{"web.shop"}, Pin: "web"},
		},
	})
	for service, want := range map[string]catalog.ClusterName{
		"web.shop": "web", "cart.shop": "a", "web.other": "any", "federation.shop": "",
	} {
		if got := ix.TrafficFor(catalog.MustServiceName(service)).Pin; got != want {
			t.Errorf("%s: pinned to %q, want %q", service, got, want)
		}
	}
}

func TestExportsAndImports(t *testing.T) {
	renamed := catalog.MustServiceName("billing.acme")
	ix := policy.NewIndex(policy.Set{
		Exports: []policy.Export{
			{Name: "all", Services: []policy.ServicePattern{"*.shop"}, To: []string{"*"}, SubsetLabels: []string{"version"}},
			{Name: "db", Services: []policy.ServicePattern{"db.data"}, To: []string{"gcp", "onprem"}},
			{Name: "web-to-gcp", Services: []policy.ServicePattern{"web.shop"}, To: []string{"gcp"}},
		},
		Imports: []policy.Import{
			{Name: "gcp", From: "gcp", Services: []policy.ServicePattern{"*"}, MaxCapacity: 10},
			{Name: "gcp-billing", From: "gcp", Services: []policy.ServicePattern{"billing.shop"}, As: &renamed},
		},
	})
	peers := []catalog.ClusterName{"azure", "gcp", "onprem"}
	for service, want := range map[string][]catalog.ClusterName{
		"web.shop": peers, "db.data": {"gcp", "onprem"}, "web.other": nil, "federation.shop": nil,
	} {
		if got := ix.ExportedTo(catalog.MustServiceName(service), peers); !slices.Equal(got, want) {
			t.Errorf("%s is exported to %v, want %v", service, got, want)
		}
	}
	for peer, want := range map[catalog.ClusterName]string{"gcp": "web-to-gcp", "onprem": "all"} {
		e, ok := ix.ExportTo(catalog.MustServiceName("web.shop"), peer)
		if !ok || e.Name != want {
			t.Errorf("web.shop goes to %s by %+v, want %s", peer, e, want)
		}
	}
	if e, ok := ix.ExportTo(catalog.MustServiceName("db.data"), "azure"); ok {
		t.Errorf("db.data goes to azure by %+v", e)
	}
	billing, web := catalog.MustServiceName("billing.shop"), catalog.MustServiceName("web.shop")
	if m, ok := ix.ImportFor("gcp", billing); !ok || m.LocalName(billing) != renamed {
		t.Errorf("billing.shop of gcp is imported by %+v", m)
	}
	if m, ok := ix.ImportFor("gcp", web); !ok || m.LocalName(web) != web || m.MaxCapacity != 10 {
		t.Errorf("web.shop of gcp is imported by %+v", m)
	}
	if m, ok := ix.ImportFor("azure", web); ok {
		t.Errorf("web.shop of azure is imported by %+v: default is none", m)
	}
	if m, ok := ix.ImportFor("gcp", catalog.FederationService("gcp")); ok {
		t.Errorf("the reserved service is imported by %+v", m)
	}
}

// The index must answer as reading all rules does.
func TestIndexAgreesWithTheRule(t *testing.T) {
	exactness := func(p policy.ServicePattern) int {
		switch {
		case p == "*":
			return 1
		case strings.HasPrefix(string(p), "*."):
			return 2
		}
		return 3
	}
	rapid.Check(t, func(t *rapid.T) {
		var s policy.Set
		for i := range rapid.IntRange(0, 6).Draw(t, "rules") {
			s.Exports = append(s.Exports, policy.Export{
				Name:     fmt.Sprintf("r%d", i),
				Services: rapid.SliceOfNDistinct(rapid.SampledFrom(somePatterns), 1, 3, rapid.ID).Draw(t, "services"),
				To:       rapid.SampledFrom([][]string{{"*"}, {"p"}, {"q"}, {"p", "q"}}).Draw(t, "to"),
			})
		}
		s.Exports = rapid.Permutation(s.Exports).Draw(t, "order")
		ix := policy.NewIndex(s)
		for _, name := range someServices {
			for _, peer := range []catalog.ClusterName{"p", "q", "r"} {
				service := catalog.MustServiceName(name)
				want, best := "", 0
				for _, e := range s.Exports {
					if !slices.Contains(e.To, string(peer)) && !slices.Contains(e.To, "*") {
						continue
					}
					for _, p := range e.Services {
						if x := exactness(p); p.Match(service) && (x > best || x == best && e.Name < want) {
							want, best = e.Name, x
						}
					}
				}
				got := ""
				if e, ok := ix.ExportTo(service, peer); ok {
					got = e.Name
				}
				if got != want {
					t.Fatalf("%s to %s: by %q, want %q", service, peer, got, want)
				}
				if exported := len(ix.ExportedTo(service, []catalog.ClusterName{peer})) == 1; exported != (want != "") {
					t.Fatalf("%s to %s: exported is %v, rule %q", service, peer, exported, want)
				}
			}
		}
	})
}

func TestDefaultTrafficIsFilled(t *testing.T) {
	for name, tr := range map[string]*policy.Traffic{
		"default":  policy.DefaultTraffic(),
		"no rules": policy.NewIndex(policy.Set{}).TrafficFor(catalog.MustServiceName("web.shop")),
	} {
		if tr.Algorithm != policy.P2C || *tr.PanicThreshold != 50 || *tr.Retries != 2 || tr.HealthCheck.Type != "tcp" ||
			tr.HealthCheck.IntervalMS != 1000 || tr.HealthCheck.TimeoutMS != 500 || tr.HealthCheck.Fall != 3 || tr.HealthCheck.Rise != 2 {
			t.Errorf("%s: %+v", name, tr)
		}
	}
	own := policy.Traffic{Algorithm: policy.Random, PanicThreshold: new(uint32(0)), Retries: new(uint32(0)), HealthCheck: &policy.HealthCheck{Type: "none", Rise: 9}}
	got := own.Filled()
	if got.Algorithm != policy.Random || *got.PanicThreshold != 0 || *got.Retries != 0 || got.HealthCheck.Type != "none" || got.HealthCheck.Rise != 9 || got.HealthCheck.Fall != 3 {
		t.Errorf("what is set, 0 included, must stay: %+v", got)
	}
	if own.HealthCheck.Fall != 0 {
		t.Error("Filled changed its receiver")
	}
}
