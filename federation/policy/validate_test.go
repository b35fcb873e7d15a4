package policy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// fields returns the fields that a validation complains about, and checks that
// every problem names a rule.
func fields(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("%v is not joined", err)
	}
	var out []string
	for _, e := range joined.Unwrap() {
		fe, ok := errors.AsType[*catalog.FieldError](e)
		if !ok || fe.Rule == "" {
			t.Fatalf("%v is no FieldError with a rule", e)
		}
		out = append(out, fe.Field)
	}
	return out
}

type validator interface{ Validate() error }

func TestValidateReportsEveryProblem(t *testing.T) {
	services := []policy.ServicePattern{"web.shop"}
	federation := catalog.FederationService("x")
	renamed := catalog.MustServiceName("web.prod")
	for name, tc := range map[string]struct {
		value validator
		want  []string
	}{
		"export":             {policy.Export{Name: "a", Services: services, To: []string{"gcp"}, SubsetLabels: []string{"version", "app.kubernetes.io/name"}}, nil},
		"export to everyone": {policy.Export{Name: "a", Services: services, To: []string{"*"}}, nil},
		"export, all wrong": {
			policy.Export{Name: "A", Services: []policy.ServicePattern{"web", "Web.x", "a.b", "a.b"}, To: []string{"*", "GCP", "aws", "aws"}, SubsetLabels: []string{"", "a,b", "v", "v", "w"}},
			[]string{"name", "services[0]", "services[1]", "services[3]", "to[0]", "to[1]", "to[3]", "subset_labels", "subset_labels[0]", "subset_labels[1]", "subset_labels[3]"},
		},
		"export, empty": {policy.Export{}, []string{"name", "services", "to"}},
		"import":        {policy.Import{Name: "a", From: "gcp", Services: services, As: &renamed}, nil},
		"import, pattern renamed": {
			policy.Import{Name: "a", From: "gcp", Services: []policy.ServicePattern{"*.shop"}, As: &renamed}, []string{"as"},
		},
		"import, two renamed": {
			policy.Import{Name: "a", From: "gcp", Services: []policy.ServicePattern{"a.shop", "b.shop"}, As: &renamed}, []string{"as"},
		},
		"import, reserved": {
			policy.Import{Name: "a", From: "gcp", Services: services, As: &federation}, []string{"as"},
		},
		"import, no name in as": {
			policy.Import{Name: "a", From: "gcp", Services: services, As: &catalog.ServiceName{}}, []string{"as"},
		},
		"import, empty": {policy.Import{}, []string{"name", "from", "services"}},
		"intention":     {policy.Intention{Name: "a", Services: services, Callers: []policy.IDPattern{"spiffe://td/*"}, Action: policy.Deny}, nil},
		"intention, all wrong": {
			policy.Intention{Name: "-", Services: []policy.ServicePattern{"federation.x"}, Callers: []policy.IDPattern{"spiffe://TD/x", "spiffe://td/x", "spiffe://td/x"}, Action: "ALLOW"},
			[]string{"name", "services[0]", "callers[0]", "callers[2]", "action"},
		},
		"intention, empty": {policy.Intention{}, []string{"name", "services", "callers", "action"}},
		"traffic": {
			policy.Traffic{
				Name: "a", Services: services, Algorithm: policy.RoundRobin, Clusters: []catalog.ClusterName{"aws", "gcp"},
				Weights: map[catalog.ClusterName]uint32{"aws": 0, "gcp": 3}, PanicThreshold: new(uint32(0)), Retries: new(uint32(7)),
				HealthCheck: &policy.HealthCheck{Type: "http", Path: "/healthz?full=1", IntervalMS: 500, TimeoutMS: 500},
			}, nil,
		},
		"traffic, pinned": {policy.Traffic{Name: "a", Services: services, Pin: "aws"}, nil},
		"traffic, all wrong": {
			policy.Traffic{
				Name: "a.b", Services: services, Algorithm: "best", Clusters: []catalog.ClusterName{"AWS", "gcp", "gcp"},
				Weights: map[catalog.ClusterName]uint32{"": policy.MaxWeight + 1}, Pin: "x.y", PanicThreshold: new(uint32(101)), Retries: new(uint32(8)),
				HealthCheck: &policy.HealthCheck{Type: "http", Path: "healthz", IntervalMS: 99, TimeoutMS: 9, Fall: 101, Rise: 101},
			},
			[]string{
				"name", "algorithm", "clusters[0]", "clusters[2]", "weights", "weights.", "pin", "pin", "panic_threshold", "retries",
				"health_check.interval_ms", "health_check.timeout_ms", "health_check.fall", "health_check.rise", "health_check.path",
			},
		},
		"traffic, all weights 0": {
			policy.Traffic{Name: "a", Services: services, Weights: map[catalog.ClusterName]uint32{"aws": 0}}, []string{"weights"},
		},
		"traffic, timeout above the default interval": {
			policy.Traffic{Name: "a", Services: services, HealthCheck: &policy.HealthCheck{Type: "tcp", TimeoutMS: 1001}}, []string{"health_check.timeout_ms"},
		},
		"traffic, path of a tcp check": {
			policy.Traffic{Name: "a", Services: services, HealthCheck: &policy.HealthCheck{Type: "tcp", Path: "/"}}, []string{"health_check.path"},
		},
		"traffic, no type of check": {
			policy.Traffic{Name: "a", Services: services, HealthCheck: &policy.HealthCheck{}}, []string{"health_check.type"},
		},
		"traffic, request splitting": {
			policy.Traffic{Name: "a", Services: services, HealthCheck: &policy.HealthCheck{Type: "http", Path: "/ HTTP/1.1\r\nHost: x"}}, []string{"health_check.path"},
		},
		"traffic, bad grpc service": {
			policy.Traffic{Name: "a", Services: services, HealthCheck: &policy.HealthCheck{Type: "grpc", Path: "a b"}}, []string{"health_check.path"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := fields(t, tc.value.Validate()); !slices.Equal(got, tc.want) {
				t.Errorf("problems with\n%q\nwant\n%q\n%v", got, tc.want, tc.value.Validate())
			}
		})
	}
}

func TestValidateBoundsEveryList(t *testing.T) {
	many := func(n int, format string) (out []string) {
		for i := range n {
			out = append(out, fmt.Sprintf(format, i))
		}
		return out
	}
	convert := func(in []string) (out []policy.ServicePattern) {
		for _, s := range in {
			out = append(out, policy.ServicePattern(s))
		}
		return out
	}
	ids := func(in []string) (out []policy.IDPattern) {
		for _, s := range in {
			out = append(out, policy.IDPattern(s))
		}
		return out
	}
	services := convert(many(policy.MaxServices, "s%d.x"))
	e := policy.Export{Name: "a", Services: services, To: many(policy.MaxClusters, "c%d"), SubsetLabels: many(catalog.MaxSubsetLabels, "l%d")}
	if err := e.Validate(); err != nil {
		t.Errorf("at the bounds: %v", err)
	}
	e = policy.Export{Name: "a", Services: append(services, "more.x"), To: many(policy.MaxClusters+1, "c%d"), SubsetLabels: many(catalog.MaxSubsetLabels+1, "l%d")}
	if got := fields(t, e.Validate()); !slices.Equal(got, []string{"services", "to", "subset_labels"}) {
		t.Errorf("above the bounds: %q", got)
	}
	in := policy.Intention{Name: "a", Services: services, Callers: ids(many(policy.MaxCallers+1, "spiffe://td/c%d")), Action: policy.Allow}
	if got := fields(t, in.Validate()); !slices.Equal(got, []string{"callers"}) {
		t.Errorf("above the bounds: %q", got)
	}
	var s policy.Set
	for i := range policy.MaxRules + 1 {
		s.Intentions = append(s.Intentions, policy.Intention{Name: fmt.Sprintf("r%d", i), Services: services[:1], Callers: in.Callers[:1], Action: policy.Allow})
	}
	if got := fields(t, s.Validate()); !slices.Equal(got, []string{"intentions"}) {
		t.Errorf("above the bounds: %q", got)
	}
	long := strings.Repeat("x", 10_000)
	err := policy.Export{Name: long, Services: convert([]string{"web.shop"}), To: []string{"gcp"}}.Validate()
	if len(err.Error()) > 400 {
		t.Errorf("a long value makes an error of %d bytes", len(err.Error()))
	}
	hostile := policy.Set{Exports: make([]policy.Export, policy.MaxRules)}
	if n := len(hostile.Validate().(interface{ Unwrap() []error }).Unwrap()); n > 101 {
		t.Errorf("%d problems are reported, want at most 100 and their number", n)
	}
}

func TestSetValidateNamesTheRuleAndTheTwin(t *testing.T) {
	ok := policy.Export{Name: "a", Services: []policy.ServicePattern{"web.shop"}, To: []string{"gcp"}}
	bad := ok
	bad.To = []string{"GCP"}
	s := policy.Set{Exports: []policy.Export{ok, bad}, Traffic: []policy.Traffic{{}}}
	want := []string{"exports[1].to[0]", "exports[1].name", "traffic_policies[0].name", "traffic_policies[0].services"}
	if got := fields(t, s.Validate()); !slices.Equal(got, want) {
		t.Errorf("problems with %q, want %q", got, want)
	}
}

func TestSetCanonicalOrder(t *testing.T) {
	mk := func(names ...string) policy.Set {
		var s policy.Set
		for _, n := range names {
			s.Exports = append(s.Exports, policy.Export{Name: n, Services: []policy.ServicePattern{"web.shop"}, To: []string{"gcp"}})
		}
		return s
	}
	a, b := mk("b", "a", "c"), mk("c", "b", "a")
	if !a.Equal(b) || a.Equal(mk("a", "b")) {
		t.Error("equality must not depend on the order, and must see what is missing")
	}
	ja, _ := json.Marshal(a.Canonical())
	jb, _ := json.Marshal(b.Canonical())
	if string(ja) != string(jb) {
		t.Errorf("canonical JSON differs:\n%s\n%s", ja, jb)
	}
	if a.Exports[0].Name != "b" {
		t.Error("Canonical changed its receiver")
	}
	if got, _ := json.Marshal(policy.Set{}.Canonical()); string(got) != `{"exports":[],"imports":[],"intentions":[],"traffic_policies":[]}` {
		t.Errorf("empty set: %s", got)
	}
}

func TestAddressesOfPeers(t *testing.T) {
	for address, good := range map[string]bool{
		"gw.west.test:4433": true, "gw_1.west.test.:4433": true, "192.0.2.1:4433": true, "[2001:db8::1]:4433": true, "[fe80::1%eth0]:1": true,
		"xn--bcher-kva.test:1": true,
		"":                     false, ":4433": false, "gw": false, "gw:04433": false, "gw:65536": false, "a b:1": false, "a,b:1": false,
		"[gw.west.test]:4433:1": false, "[a:b]:1": false, "a%b:1": false, "b\u00fccher.test:1": false, "a\x1b[2J:1": false,
		"[a\r\nIsthmus-Join-Id: spiffe://evil.test/f\r\nx:]:1": false, "[a\r\n\r\nCONNECT federation.east:443 HTTP/1.1]:1": false,
		strings.Repeat("a", 255) + ":1": false,
	} {
		if rule := policy.HostPortRule(address); (rule == "") != good {
			t.Errorf("%q: %q, want good %v", address, rule, good)
		}
	}
}
