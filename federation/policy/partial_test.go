package policy_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"pgregory.net/rapid"
)

// TestPossibleContainsWhatHappens: whatever of a request is kept, the verdict that the
// whole request gets is among the possible ones; and if there is one, it is that.
func TestPossibleContainsWhatHappens(t *testing.T) {
	paths := []string{"/", "/a", "/a/", "/a/b", "/A/b/c", "/a/b/c/d", "/b", "//", "/a;"}
	rapid.Check(t, func(t *rapid.T) {
		var rules []policy.Intention
		for i := range rapid.IntRange(0, 5).Draw(t, "rules") {
			r := rule(string(rune('a'+i)), rapid.SampledFrom([]policy.Action{policy.Allow, policy.Deny}).Draw(t, "action"))
			for range rapid.IntRange(0, 2).Draw(t, "conditions") {
				c := policy.HTTPCondition{Methods: rapid.SampledFrom([][]string{nil, {"GET"}}).Draw(t, "methods")}
				switch rapid.IntRange(0, 2).Draw(t, "kind") {
				case 1:
					c.Path = rapid.SampledFrom([]string{"/a", "/a/b/c", "/"}).Draw(t, "whole")
				case 2:
					c.PathPrefix = rapid.SampledFrom([]string{"/", "/a/", "/a/b/", "/a/b/c/"}).Draw(t, "prefix")
				}
				if rapid.Bool().Draw(t, "header") {
					c.Headers = []policy.HeaderCondition{{Name: "X", Exact: "1", Invert: rapid.Bool().Draw(t, "invert")}}
				}
				r.HTTP = append(r.HTTP, c)
			}
			rules = append(rules, r)
		}
		a := policy.NewAuthorizer(rules)
		for _, path := range paths {
			for _, header := range []http.Header{nil, {"X": {"1"}}} {
				for _, method := range []string{"GET", "POST"} {
					for _, peer := range []bool{false, true} {
						req := policy.AuthzRequest{Service: web, Caller: spiffeid.RequireFromString("spiffe://aws/web"), FromPeer: peer, PeerAsserts: anyone}
						req.HTTP = request(method, path, header)
						v := a.Authorize(req)
						seen := &policy.Partial{Method: method, Path: req.HTTP.Path}
						if rapid.Bool().Draw(t, "cut") && strings.Count(seen.Path, "/") > 1 {
							seen.Path, seen.Prefix = seen.Path[:strings.IndexByte(seen.Path[1:], '/')+2], true
						}
						p := a.Possible(req, seen)
						if v.Allowed && !p.Allow || !v.Allowed && !p.Deny {
							t.Fatalf("%s %s %v: %+v, possible is %+v (%+v)", method, path, header, v, p, rules)
						}
					}
				}
			}
		}
	})
}

func TestPossibleIsCertainWhereNothingIsMissing(t *testing.T) {
	rules := []policy.Intention{
		rule("reads", policy.Allow, policy.HTTPCondition{Methods: []string{"GET"}, PathPrefix: "/v1/"}),
		rule("blue", policy.Allow, policy.HTTPCondition{PathPrefix: "/v2/", Headers: []policy.HeaderCondition{{Name: "x-team", Exact: "blue"}}}),
		rule("no-admin", policy.Deny, policy.HTTPCondition{PathPrefix: "/v1/x/admin/"}),
	}
	a := policy.NewAuthorizer(rules)
	req := policy.AuthzRequest{Service: web, Caller: spiffeid.RequireFromString("spiffe://aws/web"), FromPeer: true}
	for name, tt := range map[string]struct {
		seen *policy.Partial
		want policy.Possible
	}{
		"a whole path":          {&policy.Partial{Method: "GET", Path: "/v1/a"}, policy.Possible{Allow: true, AllowRule: "reads"}},
		"another method":        {&policy.Partial{Method: "PUT", Path: "/v1/a"}, policy.Possible{Deny: true}},
		"a prefix below":        {&policy.Partial{Method: "GET", Path: "/v1/b/", Prefix: true}, policy.Possible{Allow: true, AllowRule: "reads"}},
		"a prefix above a deny": {&policy.Partial{Method: "GET", Path: "/v1/x/", Prefix: true}, policy.Possible{Allow: true, Deny: true, AllowRule: "reads", DenyRule: "no-admin"}},
		"a header":              {&policy.Partial{Method: "GET", Path: "/v2/a"}, policy.Possible{Allow: true, Deny: true, AllowRule: "blue"}},
		"an ambiguous path":     {&policy.Partial{Method: "GET"}, policy.Possible{Deny: true}},
		"no request":            {nil, policy.Possible{Deny: true, DenyRule: "no-admin"}},
	} {
		if got := a.Possible(req, tt.seen); got != tt.want || got.Certain() != (tt.want.Allow != tt.want.Deny) {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
	}
}
