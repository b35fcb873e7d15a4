package policy_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"pgregory.net/rapid"
)

var (
	web    = catalog.MustServiceName("web.shop")
	anyone = []policy.IDPattern{"spiffe://aws/*"}
)

func rule(name string, action policy.Action, conditions ...policy.HTTPCondition) policy.Intention {
	return policy.Intention{Name: name, Services: []policy.ServicePattern{"web.shop"}, Callers: anyone, Action: action, HTTP: conditions}
}

func request(method, path string, header http.Header) *policy.HTTPRequest {
	r := policy.NewHTTPRequest(method, path, header)
	return &r
}

func ask(rules []policy.Intention, r *policy.HTTPRequest, pending bool) policy.Verdict {
	return policy.Authorize(rules, policy.AuthzRequest{
		Service: web, Caller: spiffeid.RequireFromString("spiffe://aws/web"), FromPeer: true, PeerAsserts: anyone, HTTP: r, Pending: pending,
	})
}

func TestConditionsNarrowARule(t *testing.T) {
	reads := rule("reads", policy.Allow, policy.HTTPCondition{Methods: []string{"GET", "HEAD"}, PathPrefix: "/v1/"}, policy.HTTPCondition{Path: "/health"})
	call := rule("call", policy.Allow, policy.HTTPCondition{Methods: []string{"POST"}, Path: "/pkg.Service/Method"})
	noAdmin := rule("no-admin", policy.Deny, policy.HTTPCondition{PathPrefix: "/v1/admin/"})
	noDelete := rule("no-delete", policy.Deny, policy.HTTPCondition{Methods: []string{"DELETE"}})
	all := rule("all", policy.Allow)
	team := rule("team", policy.Allow, policy.HTTPCondition{Headers: []policy.HeaderCondition{{Name: "x-team", Exact: "blue"}}})
	noDebug := rule("no-debug", policy.Deny, policy.HTTPCondition{Headers: []policy.HeaderCondition{{Name: "X-Debug", Present: true}}})
	noRed := rule("no-red", policy.Deny, policy.HTTPCondition{Headers: []policy.HeaderCondition{{Name: "x-team", Prefix: "red"}}})
	onlyBlue := rule("only-blue", policy.Deny, policy.HTTPCondition{Headers: []policy.HeaderCondition{{Name: "x-team", Exact: "blue", Invert: true}}})
	blue := func(v ...string) http.Header { return http.Header{"X-Team": v} }
	for _, tt := range []struct {
		name   string
		rules  []policy.Intention
		method string
		path   string
		header http.Header
		want   string // the rule, "-" for the default deny
	}{
		{"method and prefix", []policy.Intention{reads}, "GET", "/v1/a", nil, "reads"},
		{"the other alternative", []policy.Intention{reads}, "POST", "/health", nil, "reads"},
		{"another method", []policy.Intention{reads}, "POST", "/v1/a", nil, "-"},
		{"an allow takes a method to the letter", []policy.Intention{reads}, "get", "/v1/a", nil, "-"},
		{"another path", []policy.Intention{reads}, "GET", "/v10", nil, "-"},
		{"the prefix without its end", []policy.Intention{reads}, "GET", "/v1", nil, "-"},
		{"an allow takes a path to the letter", []policy.Intention{reads}, "GET", "/V1/a", nil, "-"},
		{"whole path and slash", []policy.Intention{reads}, "GET", "/health/", nil, "-"},
		{"grpc", []policy.Intention{call}, "POST", "/pkg.Service/Method", nil, "call"},
		{"another grpc method", []policy.Intention{call}, "POST", "/pkg.Service/Other", nil, "-"},
		{"a deny wins over an allow", []policy.Intention{all, noAdmin}, "GET", "/v1/admin/x", nil, "!no-admin"},
		{"a deny takes the prefix's own name", []policy.Intention{all, noAdmin}, "GET", "/v1/admin", nil, "!no-admin"},
		{"a deny folds case", []policy.Intention{all, noAdmin}, "GET", "/V1/Admin/", nil, "!no-admin"},
		{"a deny that is not met", []policy.Intention{all, noAdmin}, "GET", "/v1/administrator", nil, "all"},
		{"a deny of a method in another case", []policy.Intention{all, noDelete}, "delete", "/", nil, "!no-delete"},
		{"escapes are decoded", []policy.Intention{rule("cafe", policy.Allow, policy.HTTPCondition{Path: "/café au lait"})}, "GET", "/caf%C3%A9%20au%20lait", nil, "cafe"},
		{"header", []policy.Intention{team}, "GET", "/", blue("blue"), "team"},
		{"no header", []policy.Intention{team}, "GET", "/", nil, "-"},
		{"an allow needs all values", []policy.Intention{team}, "GET", "/", blue("blue", "red"), "-"},
		{"an allow takes a value whole", []policy.Intention{team}, "GET", "/", blue("blue, red"), "-"},
		{"an allow sees the field in its other spelling", []policy.Intention{team}, "GET", "/", http.Header{"X-Team": {"blue"}, "X_team": {"red"}}, "-"},
		{"present", []policy.Intention{all, noDebug}, "GET", "/", http.Header{"X-Debug": {""}}, "!no-debug"},
		{"present in its other spelling", []policy.Intention{all, noDebug}, "GET", "/", http.Header{"X_debug": {""}}, "!no-debug"},
		{"not present", []policy.Intention{all, noDebug}, "GET", "/", nil, "all"},
		{"a deny needs one value", []policy.Intention{all, noRed}, "GET", "/", blue("blue", "red-1"), "!no-red"},
		{"a deny looks into lists", []policy.Intention{all, noRed}, "GET", "/", blue("blue, red-1"), "!no-red"},
		{"a deny of everything else, absent", []policy.Intention{all, onlyBlue}, "GET", "/", nil, "!only-blue"},
		{"a deny of everything else, one other", []policy.Intention{all, onlyBlue}, "GET", "/", blue("blue", "red"), "!only-blue"},
		{"a deny of everything else, only that", []policy.Intention{all, onlyBlue}, "GET", "/", blue("blue", "blue"), "all"},
		{"connect has no path: an allow does not match", []policy.Intention{reads}, "CONNECT", "", nil, "-"},
		{"connect has no path: a deny does", []policy.Intention{all, noAdmin}, "CONNECT", "", nil, "!no-admin"},
		{"the first by name", []policy.Intention{all, rule("a", policy.Allow, policy.HTTPCondition{Path: "/x"})}, "GET", "/x", nil, "a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := ask(tt.rules, request(tt.method, tt.path, tt.header), false)
			got := v.Rule
			if v.Reason == policy.ReasonDefaultDeny {
				got = "-"
			} else if !v.Allowed {
				got = "!" + got
			}
			if got != tt.want {
				t.Errorf("%s %s %v: %+v, want %s", tt.method, tt.path, tt.header, v, tt.want)
			}
		})
	}
}

// Where no request is seen, conditions fail closed; where requests are to come, they
// are left open.
func TestWithoutARequest(t *testing.T) {
	condition := policy.HTTPCondition{Path: "/x"}
	allow, deny, all := rule("allow", policy.Allow, condition), rule("deny", policy.Deny, condition), rule("open", policy.Allow)
	for _, tt := range []struct {
		name    string
		rules   []policy.Intention
		pending bool
		allowed bool
	}{
		{"an allow with conditions does not match", []policy.Intention{allow}, false, false},
		{"a deny with conditions does", []policy.Intention{all, deny}, false, false},
		{"pending: the allow may be met", []policy.Intention{allow}, true, true},
		{"pending: the deny may not be met", []policy.Intention{all, deny}, true, true},
		{"pending: a deny alone opens nothing", []policy.Intention{deny}, true, false},
		{"pending: an unconditional deny wins", []policy.Intention{allow, rule("never", policy.Deny)}, true, false},
	} {
		if v := ask(tt.rules, nil, tt.pending); v.Allowed != tt.allowed {
			t.Errorf("%s: %+v", tt.name, v)
		}
	}
}

func TestAmbiguousPaths(t *testing.T) {
	paths := rule("paths", policy.Deny, policy.HTTPCondition{Path: "/admin"})
	methods := rule("methods", policy.Deny, policy.HTTPCondition{Methods: []string{"DELETE"}})
	all := rule("all", policy.Allow)
	for _, path := range []string{
		"//admin", "/a//b", "/./admin", "/a/../admin", "/..", "/.", "/%61dmin", "/%2e%2e/admin", "/%2E/admin", "/a%2fb", "/a%2Fb", "/a%5cb",
		"/a;x=1", "/a%3bx", "/%25%32%65", "/a%00", "/a%0d%0a", "/a%7f", "/a%2", "/a%", "/a%zz", "/%c0%af", "/%ff", "/a\\b", "/a b", "/é", "*", "admin", "http:/x", "/a%3fb", "/a%23b",
	} {
		r := request("GET", path, nil)
		if r.Ambiguous() == "" || r.Path != "" {
			t.Errorf("%q is taken for %q", path, r.Path)
		}
		if v := ask([]policy.Intention{all, paths}, r, false); v.Allowed || v.Reason != policy.ReasonAmbiguousPath {
			t.Errorf("%q: %+v", path, v)
		}
		if v := ask([]policy.Intention{all, methods}, r, false); !v.Allowed {
			t.Errorf("%q: %+v, no rule looks at paths", path, v)
		}
	}
	for path, want := range map[string]string{
		"": "/", "/": "/", "/a": "/a", "/a/": "/a/", "/a.b/..c/...": "/a.b/..c/...", "/a:b@c,d=e+f&g!$'()*~-_": "/a:b@c,d=e+f&g!$'()*~-_",
		"/a%20b": "/a b", "/%E2%82%AC": "/€",
	} {
		if r := request("GET", path, nil); r.Ambiguous() != "" || r.Path != want {
			t.Errorf("%q: %q, %q", path, r.Path, r.Ambiguous())
		}
	}
}

func TestConditionsAreValidated(t *testing.T) {
	long := strings.Repeat("a", 4000)
	for name, c := range map[string]policy.HTTPCondition{
		"nothing":              {},
		"lower case":           {Methods: []string{"get"}},
		"no token":             {Methods: []string{"GE T"}},
		"twice":                {Methods: []string{"GET", "GET"}},
		"many methods":         {Methods: strings.Split("A B C D E F G H I J K L M N O P Q", " ")},
		"both":                 {Path: "/a", PathPrefix: "/a/"},
		"relative":             {Path: "a"},
		"prefix without end":   {PathPrefix: "/a"},
		"escape":               {Path: "/%41"},
		"query":                {Path: "/a?b"},
		"dots":                 {Path: "/a/../b"},
		"empty segment":        {PathPrefix: "//"},
		"parameter":            {Path: "/a;b"},
		"control":              {Path: "/a\n"},
		"not utf-8":            {Path: "/\xff"},
		"long path":            {Path: "/" + long},
		"no name":              {Headers: []policy.HeaderCondition{{Present: true}}},
		"underscore":           {Headers: []policy.HeaderCondition{{Name: "x_a", Present: true}}},
		"host":                 {Headers: []policy.HeaderCondition{{Name: "host", Present: true}}},
		"a gateway's":          {Headers: []policy.HeaderCondition{{Name: "x-forwarded-client-cert", Present: true}}},
		"the tunnel's":         {Headers: []policy.HeaderCondition{{Name: "isthmus-caller", Present: true}}},
		"no predicate":         {Headers: []policy.HeaderCondition{{Name: "x"}}},
		"two predicates":       {Headers: []policy.HeaderCondition{{Name: "x", Exact: "a", Prefix: "b"}}},
		"white space":          {Headers: []policy.HeaderCondition{{Name: "x", Exact: " a"}}},
		"line end":             {Headers: []policy.HeaderCondition{{Name: "x", Prefix: "a\r\nb"}}},
		"long value":           {Headers: []policy.HeaderCondition{{Name: "x", Exact: long}}},
		"many headers":         {Headers: make([]policy.HeaderCondition, 9)},
		"an allow of anything": {Methods: nil, Headers: []policy.HeaderCondition{}},
	} {
		if err := rule("r", policy.Allow, c).Validate(); err == nil {
			t.Errorf("%s: %+v is accepted", name, c)
		}
	}
	if err := rule("r", policy.Allow, make([]policy.HTTPCondition, 65)...).Validate(); err == nil {
		t.Error("65 conditions are accepted")
	}
	good := rule("r", policy.Allow, policy.HTTPCondition{Methods: []string{"GET"}, PathPrefix: "/", Headers: []policy.HeaderCondition{{Name: "x-team", Exact: "é", Invert: true}}})
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}

// A version that does not know a field of an intention must not open more by it.
func TestUnknownFieldsOfIntentionsFailClosed(t *testing.T) {
	const list = `[
		{"name":"a","services":["web.shop"],"callers":["spiffe://aws/*"],"action":"allow"},
		{"name":"b","services":["web.shop"],"callers":["spiffe://aws/*"],"action":"allow","when":{"day":"monday"}},
		{"name":"c","services":["web.shop"],"callers":["spiffe://aws/*"],"action":"deny","when":{"day":"monday"}},
		{"name":"d","services":["web.shop"],"callers":["spiffe://aws/*"],"action":"allow","http":[{"query":"x"}]},
		{"name":"e","services":["web.shop"],"callers":["spiffe://aws/*"],"action":"deny","http":[{"path":"/x","query":"x"}]},
		{"name":"f","services":["web.shop"],"callers":["spiffe://aws/*"],"action":"deny","http":[{"methods":{"not":["GET"]}}]}
	]`
	var got policy.Intentions
	if err := json.Unmarshal([]byte(list), &got); err != nil {
		t.Fatal(err)
	}
	names := ""
	for _, in := range got {
		names += in.Name
		if len(in.HTTP) > 0 {
			t.Errorf("%s kept a part of its conditions: %+v", in.Name, in.HTTP)
		}
	}
	if names != "acef" {
		t.Errorf("%q are applied, want the allow that is understood and the denies", names)
	}
	if err := (policy.Set{Intentions: got}).Validate(); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{`{}`, `[1]`, `[{"name":1}]`, `[`} {
		if err := json.Unmarshal([]byte(bad), new(policy.Intentions)); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

// naive reads one condition literally.
func naive(c policy.HTTPCondition, allow bool, method, path string, header http.Header) bool {
	folded := func(s string) string {
		if allow {
			return s
		}
		return strings.TrimSuffix(strings.ToLower(s), "/")
	}
	ok := len(c.Methods) == 0
	for _, m := range c.Methods {
		ok = ok || folded(m) == folded(method)
	}
	if c.Path != "" {
		ok = ok && folded(c.Path) == folded(path)
	}
	if c.PathPrefix != "" {
		ok = ok && strings.HasPrefix(folded(path)+map[bool]string{false: "/"}[allow], folded(c.PathPrefix)+map[bool]string{false: "/"}[allow])
	}
	for _, h := range c.Headers {
		values := header.Values(h.Name)
		holds := func(v string) bool {
			return (h.Present || h.Exact != "" && v == h.Exact || h.Prefix != "" && strings.HasPrefix(v, h.Prefix)) != h.Invert
		}
		one, all := false, len(values) > 0 || h.Invert
		if len(values) == 0 {
			one = h.Invert
		}
		for _, v := range values {
			one, all = one || holds(v), all && holds(v)
		}
		ok = ok && (allow && all || !allow && one)
	}
	return ok
}

// The index by path must answer as reading all rules does.
func TestConditionsAgreeWithTheDefinition(t *testing.T) {
	paths := []string{"/", "/a", "/a/", "/A", "/a/b", "/a/b/", "/ab", "/a/B/c"}
	methods := []string{"GET", "get", "POST"}
	rapid.Check(t, func(t *rapid.T) {
		var rules []policy.Intention
		for i := range rapid.IntRange(0, 6).Draw(t, "rules") {
			r := rule(fmt.Sprintf("r%d", i), rapid.SampledFrom([]policy.Action{policy.Allow, policy.Deny}).Draw(t, "action"))
			for range rapid.IntRange(0, 3).Draw(t, "conditions") {
				c := policy.HTTPCondition{Methods: rapid.SampledFrom([][]string{nil, {"GET"}, {"POST", "PUT"}}).Draw(t, "methods")}
				switch rapid.IntRange(0, 2).Draw(t, "path") {
				case 1:
					c.Path = rapid.SampledFrom(paths).Draw(t, "whole")
				case 2:
					c.PathPrefix = rapid.SampledFrom([]string{"/", "/a/", "/A/b/", "/a/b/c/"}).Draw(t, "prefix")
				}
				if rapid.Bool().Draw(t, "header") || c.Path == "" && c.PathPrefix == "" && c.Methods == nil {
					c.Headers = []policy.HeaderCondition{rapid.SampledFrom([]policy.HeaderCondition{
						{Name: "x", Exact: "1"}, {Name: "x", Prefix: "1", Invert: true}, {Name: "X", Present: true}, {Name: "X", Present: true, Invert: true},
					}).Draw(t, "condition")}
				}
				r.HTTP = append(r.HTTP, c)
			}
			rules = append(rules, r)
		}
		rules = rapid.Permutation(rules).Draw(t, "order")
		a := policy.NewAuthorizer(rules)
		for _, path := range paths {
			for _, method := range methods {
				for _, values := range [][]string{nil, {"1"}, {"1", "2"}, {"2"}} {
					header := http.Header{}
					if values != nil {
						header["X"] = values
					}
					want := map[policy.Action]string{}
					for _, r := range rules {
						met := len(r.HTTP) == 0
						for _, c := range r.HTTP {
							met = met || naive(c, r.Action == policy.Allow, method, path, header)
						}
						if met && (want[r.Action] == "" || r.Name < want[r.Action]) {
							want[r.Action] = r.Name
						}
					}
					v := a.Authorize(policy.AuthzRequest{
						Service: web, Caller: spiffeid.RequireFromString("spiffe://aws/web"), FromPeer: true, PeerAsserts: anyone, HTTP: request(method, path, header),
					})
					expect := policy.Verdict{Reason: policy.ReasonDefaultDeny}
					switch {
					case want[policy.Deny] != "":
						expect = policy.Verdict{Reason: policy.ReasonDeniedByIntention, Rule: want[policy.Deny]}
					case want[policy.Allow] != "":
						expect = policy.Verdict{Allowed: true, Reason: policy.ReasonAllowed, Rule: want[policy.Allow]}
					}
					if v != expect {
						t.Fatalf("%s %s %v: %+v, want %+v", method, path, values, v, expect)
					}
				}
			}
		}
	})
}

// FuzzHTTPRequest: a path that is not refused is read alike by the parser that
// forwards it, and by one that cleans paths.
func FuzzHTTPRequest(f *testing.F) {
	for _, s := range []string{"/a/b", "/%20", "//", "/a/../b", "/%2e", "*", "/\xc0\xaf", "/a;b", "/a\\b", "/%e2%82%ac"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r := policy.NewHTTPRequest("GET", s, nil)
		if r.Ambiguous() != "" || s == "" {
			return
		}
		u, err := url.ParseRequestURI(s)
		if err != nil || u.Path != r.Path {
			t.Fatalf("%q: judged as %q, forwarded as %+v (%v)", s, r.Path, u, err)
		}
		if again := policy.NewHTTPRequest("GET", u.EscapedPath(), nil); again.Path != r.Path {
			t.Fatalf("%q: judged as %q here and as %q at the next gateway (%s)", s, r.Path, again.Path, again.Ambiguous())
		}
		for segment := range strings.SplitSeq(r.Path[1:], "/") {
			if segment == "." || segment == ".." || strings.ContainsAny(segment, "%\\;\x00") {
				t.Fatalf("%q: judged as %q", s, r.Path)
			}
		}
	})
}

// withConditions are n rules with conditions: in one of ten for one caller and
// service, told apart by their paths alone.
func withConditions(n int) []policy.Intention {
	out := manyIntentions(n)
	for i := range out {
		out[i].HTTP = []policy.HTTPCondition{
			{Methods: []string{"GET", "HEAD"}, PathPrefix: fmt.Sprintf("/v1/orders/%d/", i)},
			{Methods: []string{"POST"}, Path: fmt.Sprintf("/shop.Orders/Method%d", i), Headers: []policy.HeaderCondition{{Name: "x-team", Exact: "blue"}}},
		}
		if i%10 == 2 {
			out[i].Services, out[i].Callers = []policy.ServicePattern{"s7777.n277"}, []policy.IDPattern{"spiffe://td17/ns/7777/*"}
		}
	}
	return out
}

func conditionRequest(a *policy.Authorizer, path string) policy.AuthzRequest {
	return policy.AuthzRequest{
		Service: catalog.MustServiceName("s7777.n277"), Caller: spiffeid.RequireFromString("spiffe://td17/ns/7777/web"),
		FromPeer: true, PeerAsserts: []policy.IDPattern{"spiffe://td17/*"},
		HTTP: request("POST", path, http.Header{"X-Team": {"blue"}, "Content-Type": {"application/grpc"}}),
	}
}

func TestAuthorizeHTTPDoesNotAllocate(t *testing.T) {
	a := policy.NewAuthorizer(withConditions(10_000))
	req := conditionRequest(a, "/shop.Orders/Method5002")
	if v := a.Authorize(req); !v.Allowed || v.Rule != "rule-05002" {
		t.Fatal(v)
	}
	header := http.Header{"X-Team": {"blue"}}
	if n := testing.AllocsPerRun(100, func() {
		r := policy.NewHTTPRequest("POST", "/shop.Orders/Method5002", header)
		req.HTTP = &r
		a.Authorize(req)
	}); n > 1 { // the request itself
		t.Errorf("%v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { a.Authorize(req) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
	result := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			a.Authorize(req)
		}
	})
	t.Logf("figure: one of 10,000 rules with conditions, 1,000 of them of this caller and service: %d ns", result.NsPerOp())
}

func BenchmarkAuthorizeHTTP10000(b *testing.B) {
	a := policy.NewAuthorizer(withConditions(10_000))
	for name, path := range map[string]string{"match": "/shop.Orders/Method5002", "none": "/shop.Orders/Nothing", "deep": "/v1/orders/5002" + strings.Repeat("/x", 20)} {
		b.Run(name, func(b *testing.B) {
			req := conditionRequest(a, path)
			b.ReportAllocs()
			for b.Loop() {
				a.Authorize(req)
			}
		})
	}
}
