package policy_test

import (
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func TestServicePatternIsCanonicalOrRefused(t *testing.T) {
	label63 := strings.Repeat("a", 63)
	for _, tc := range []struct{ in, want string }{
		{"*", "*"},
		{"*.shop", "*.shop"},
		{"web.shop", "web.shop"},
		{"web", "web.default"},
		{label63 + "." + label63, label63 + "." + label63},
		{"xn--mnchen-3ya.shop", "xn--mnchen-3ya.shop"}, // an IDN in its ASCII form is a label
	} {
		got, err := policy.ParseServicePattern(tc.in)
		if err != nil || string(got) != tc.want {
			t.Errorf("ParseServicePattern(%q) = %q, %v; want %q", tc.in, got, err, tc.want)
		}
	}
	for name, in := range map[string]string{
		"empty":                  "",
		"upper case":             "Web.shop",
		"upper case namespace":   "web.Shop",
		"trailing dot":           "web.shop.",
		"leading dot":            ".shop",
		"only a dot":             ".",
		"three parts":            "web.shop.mesh",
		"raw IDN":                "münchen.shop",
		"wildcard inside":        "we*b.shop",
		"wildcard at the end":    "web*.shop",
		"wildcard namespace":     "web.*",
		"wildcard of everything": "*.*",
		"double wildcard":        "**",
		"wildcard and no dot":    "*shop",
		"wildcard, no namespace": "*.",
		"wildcard, upper case":   "*.Shop",
		"wildcard, two labels":   "*.shop.eu",
		"space":                  "web .shop",
		"NUL":                    "web\x00.shop",
		"slash":                  "web/shop",
		"percent":                "web%2eshop",
		"underscore":             "we_b.shop",
		"64 byte label":          label63 + "a.shop",
		"255 bytes":              strings.Repeat("a", 255),
		"256 bytes":              strings.Repeat("a", 256),
		"reserved":               "federation.shop",
		"reserved short":         "federation",
	} {
		if got, err := policy.ParseServicePattern(in); err == nil {
			t.Errorf("%s: ParseServicePattern(%q) = %q, want an error", name, in, got)
		}
	}
}

func TestServicePatternMatch(t *testing.T) {
	for _, tc := range []struct {
		pattern policy.ServicePattern
		service string
		want    bool
	}{
		{"*", "web.shop", true},
		{"*", "federation.shop", false},
		{"*.shop", "web.shop", true},
		{"*.shop", "web.shopping", false},
		{"*.shop", "federation.shop", false},
		{"web.shop", "web.shop", true},
		{"web.shop", "web.default", false},
		{"web", "web.default", false}, // not canonical: matches nothing
		{"", "web.default", false},
		{"federation.shop", "federation.shop", false},
	} {
		if got := tc.pattern.Match(catalog.MustServiceName(tc.service)); got != tc.want && tc.pattern != "federation.shop" {
			t.Errorf("%q.Match(%s) = %v, want %v", tc.pattern, tc.service, got, tc.want)
		}
		name, exact := tc.pattern.Exact()
		if exact && name.String() != string(tc.pattern) {
			t.Errorf("%q.Exact() = %s", tc.pattern, name)
		}
	}
}

func TestIDPatternIsStrict(t *testing.T) {
	td255 := strings.Repeat("a", 255)
	long := "spiffe://td/" + strings.Repeat("a", policy.MaxIDLen-len("spiffe://td/"))
	for name, in := range map[string]string{
		"workload":           "spiffe://td/web",
		"below a path":       "spiffe://td/ns/shop/*",
		"trust domain":       "spiffe://td/*",
		"case in path":       "spiffe://td/Web",
		"255 byte domain":    "spiffe://" + td255 + "/*",
		"2048 bytes":         long,
		"dots in the domain": "spiffe://a.b.c/web",
	} {
		if got, err := policy.ParseIDPattern(in); err != nil || string(got) != in {
			t.Errorf("%s: ParseIDPattern(%q) = %q, %v", name, in, got, err)
		}
	}
	for name, in := range map[string]string{
		"empty":                    "",
		"star":                     "*",
		"scheme only":              "spiffe://",
		"star domain":              "spiffe://*",
		"star domain and path":     "spiffe://*/web",
		"no path":                  "spiffe://td",
		"trailing slash":           "spiffe://td/",
		"upper case domain":        "spiffe://TD/web",
		"upper case scheme":        "SPIFFE://td/web",
		"other scheme":             "https://td/web",
		"port":                     "spiffe://td:443/web",
		"user":                     "spiffe://me@td/web",
		"query":                    "spiffe://td/web?x=1",
		"fragment":                 "spiffe://td/web#x",
		"IDN":                      "spiffe://münchen/web",
		"trailing dot in domain":   "spiffe://td./web",
		"leading dot in domain":    "spiffe://.td/web",
		"empty label in domain":    "spiffe://t..d/web",
		"dot segment":              "spiffe://td/./web",
		"dot-dot segment":          "spiffe://td/../web",
		"dot-dot before wildcard":  "spiffe://td/../*",
		"empty segment":            "spiffe://td//web",
		"empty before wildcard":    "spiffe://td//*",
		"percent":                  "spiffe://td/%77eb",
		"wildcard inside":          "spiffe://td/*/web",
		"wildcard within segment":  "spiffe://td/web*",
		"two wildcards":            "spiffe://td/*/*",
		"256 byte domain":          "spiffe://" + td255 + "a/*",
		"2049 bytes":               long + "a",
		"NUL":                      "spiffe://td/we\x00b",
		"space":                    "spiffe://td/web ",
		"newline":                  "spiffe://td/web\n",
		"wildcard without a slash": "spiffe://td*",
	} {
		if got, err := policy.ParseIDPattern(in); err == nil {
			t.Errorf("%s: ParseIDPattern(%q) = %q, want an error", name, in, got)
		}
	}
}

func TestIDPatternMatchesWholeSegments(t *testing.T) {
	for _, tc := range []struct {
		pattern policy.IDPattern
		id      string
		want    bool
	}{
		{"spiffe://td/a", "spiffe://td/a", true},
		{"spiffe://td/a", "spiffe://td/A", false},
		{"spiffe://td/a", "spiffe://td/a/b", false},
		{"spiffe://td/a/*", "spiffe://td/a/b", true},
		{"spiffe://td/a/*", "spiffe://td/a/b/c", true},
		{"spiffe://td/a/*", "spiffe://td/a", false},
		{"spiffe://td/a/*", "spiffe://td/ab", false},
		{"spiffe://td/a/*", "spiffe://td/ab/c", false},
		{"spiffe://td/*", "spiffe://td/a", true},
		{"spiffe://td/*", "spiffe://td", false},
		{"spiffe://td/*", "spiffe://tdx/a", false},
		{"spiffe://td/*", "spiffe://x.td/a", false},
		{"", "spiffe://td/a", false},
		{"/*", "spiffe://td/a", false},
	} {
		if got := tc.pattern.Match(spiffeid.RequireFromString(tc.id)); got != tc.want {
			t.Errorf("%q.Match(%s) = %v, want %v", tc.pattern, tc.id, got, tc.want)
		}
		if tc.pattern.Match(spiffeid.ID{}) {
			t.Errorf("%q matches the zero ID", tc.pattern)
		}
	}
}

func FuzzServicePattern(f *testing.F) {
	for _, s := range []string{"*", "*.shop", "web.shop", "web", "federation.x", "", "*.", "a*.b", "A.b", "web.shop."} {
		f.Add(s, "web.shop")
	}
	f.Fuzz(func(t *testing.T, s, service string) {
		p, err := policy.ParseServicePattern(s)
		if err != nil {
			return
		}
		if again, err := policy.ParseServicePattern(string(p)); err != nil || again != p {
			t.Fatalf("canonical form %q parses to %q, %v", p, again, err)
		}
		n, err := catalog.ParseServiceName(service)
		if err != nil {
			return
		}
		if n.IsFederation() && p.Match(n) {
			t.Fatalf("%q matches the reserved %s", p, n)
		}
		exact, ok := p.Exact()
		if ok == strings.HasPrefix(string(p), "*") {
			t.Fatalf("%q: exact is %v", p, ok)
		}
		if ok && p.Match(n) != (exact == n) {
			t.Fatalf("%q names %s, but Match(%s) = %v", p, exact, n, p.Match(n))
		}
	})
}

func FuzzIDPattern(f *testing.F) {
	for _, s := range []string{"spiffe://td/*", "spiffe://td/a/*", "spiffe://td/a", "spiffe://td", "spiffe://td/*/a", "", "/*"} {
		f.Add(s, "spiffe://td/a", "spiffe://td/a/*")
	}
	f.Fuzz(func(t *testing.T, s, caller, other string) {
		p, err := policy.ParseIDPattern(s)
		if err != nil {
			return
		}
		if string(p) != s || len(s) > policy.MaxIDLen {
			t.Fatalf("ParseIDPattern(%q) = %q", s, p)
		}
		id, err := spiffeid.FromString(caller)
		if err != nil {
			return
		}
		matched := p.Match(id)
		if matched && id.Path() == "" {
			t.Fatalf("%q matches the trust domain %s", p, id)
		}
		if matched && !strings.HasPrefix(s, "spiffe://"+id.TrustDomain().Name()+"/") {
			t.Fatalf("%q matches %s of another trust domain", p, id)
		}
		q, err := policy.ParseIDPattern(other)
		if err != nil {
			return
		}
		if p.Overlap(q) != q.Overlap(p) {
			t.Fatalf("overlap of %q and %q is not symmetric", p, q)
		}
		if matched && q.Match(id) && !p.Overlap(q) {
			t.Fatalf("%q and %q both match %s and yet do not overlap", p, q, id)
		}
	})
}
