package policy_test

import (
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

func patterns(s ...policy.ServicePattern) []policy.ServicePattern { return s }

// The rule that decides says everything: what it excludes no other rule takes, and
// what its map does not name keeps its name.
func TestImportsFilterAndMap(t *testing.T) {
	other := catalog.MustServiceName("till.here")
	ix := policy.NewIndex(policy.Set{Imports: []policy.Import{
		{Name: "all", From: "gcp", Services: patterns("*"), Exclude: patterns("*.internal", "debug.shop"), Namespaces: map[string]string{"shop": "store", "prod": "default"}},
		{Name: "one", From: "gcp", Services: patterns("pay.shop"), As: &other},
		{Name: "lab", From: "gcp", Services: patterns("*.lab"), Exclude: patterns("secret.lab")},
		{Name: "edge", From: "edge", Services: patterns("*.internal")},
	}})
	for _, c := range []struct {
		from           catalog.ClusterName
		remote, as, by string
	}{
		{"gcp", "web.shop", "web.store", "all"},
		{"gcp", "web.prod", "web.default", "all"},
		{"gcp", "web.other", "web.other", "all"},
		{"gcp", "web.internal", "", ""},
		{"gcp", "debug.shop", "", ""},
		{"gcp", "debug.other", "debug.other", "all"},
		{"gcp", "pay.shop", "till.here", "one"},
		{"gcp", "api.lab", "api.lab", "lab"}, // its rule has no map
		{"gcp", "secret.lab", "", ""},        // and all does not take it instead
		{"edge", "web.internal", "web.internal", "edge"},
		{"edge", "web.shop", "", ""},
	} {
		m, ok := ix.ImportFor(c.from, catalog.MustServiceName(c.remote))
		switch {
		case !ok && c.by != "" || ok && m.Name != c.by:
			t.Errorf("%s of %s: taken %v by %+v, want %q", c.remote, c.from, ok, m, c.by)
		case ok && m.LocalName(catalog.MustServiceName(c.remote)).String() != c.as:
			t.Errorf("%s of %s is called %s, want %s", c.remote, c.from, m.LocalName(catalog.MustServiceName(c.remote)), c.as)
		}
	}
}

func TestImportValidateFilterAndMap(t *testing.T) {
	as := catalog.MustServiceName("a.b")
	many := map[string]string{}
	for _, a := range "abcdefghijklmnopqrstuvwxyz" {
		for _, b := range "abcdefghijk" {
			many[string(a)+string(b)] = "x"
		}
	}
	base := policy.Import{Name: "i", From: "gcp", Services: patterns("*")}
	for name, c := range map[string]struct {
		change func(*policy.Import)
		want   []string
	}{
		"nothing":         {func(*policy.Import) {}, nil},
		"both":            {func(m *policy.Import) { m.Exclude = patterns("*.x", "a.b"); m.Namespaces = map[string]string{"a": "b"} }, nil},
		"bad pattern":     {func(m *policy.Import) { m.Exclude = patterns("*.x", "Bad") }, []string{"exclude[1]"}},
		"everything":      {func(m *policy.Import) { m.Exclude = patterns("*") }, []string{"exclude[0]"}},
		"bad namespace":   {func(m *policy.Import) { m.Namespaces = map[string]string{"a": "B", "C": "d", "ok": "fine"} }, []string{"namespaces.C", "namespaces.a"}},
		"empty namespace": {func(m *policy.Import) { m.Namespaces = map[string]string{"a": ""} }, []string{"namespaces.a"}},
		"many namespaces": {func(m *policy.Import) { m.Namespaces = many }, []string{"namespaces"}},
		"beside as": {func(m *policy.Import) {
			m.Services, m.As, m.Namespaces = patterns("x.y"), &as, map[string]string{"y": "z"}
		}, []string{"namespaces"}},
	} {
		m := base
		c.change(&m)
		got := fields(t, m.Validate())
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: problems with %q, want %q", name, got, c.want)
		}
	}
}
