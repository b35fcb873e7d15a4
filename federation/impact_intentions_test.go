package federation

import (
	"fmt"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

func intention(name, service, caller string, action policy.Action, http ...policy.HTTPCondition) policy.Intention {
	return policy.Intention{
		Name: name, Services: []policy.ServicePattern{policy.ServicePattern(service)}, Callers: []policy.IDPattern{policy.IDPattern(caller)}, Action: action, HTTP: http,
	}
}

func wasSeen(service, caller string, peer catalog.ClusterName, method, path string, allowed bool, reason, rule string) route.Sighting {
	return route.Sighting{
		SightingKey: route.SightingKey{
			Service: catalog.MustServiceName(service), Caller: caller, Peer: peer, Method: method, Path: path, Allowed: allowed, Reason: reason, Rule: rule,
		},
		Count: 3, LastSeen: time.Unix(1_800_000_000, 0),
	}
}

func TestIntentionImpact(t *testing.T) {
	hosted := []hostedService{{name: catalog.MustServiceName("web"), carriesHTTP: true}, {name: catalog.MustServiceName("db")}}
	open := intention("open", "web.default", "spiffe://b/*", policy.Allow)
	get := policy.HTTPCondition{Methods: []string{"GET"}}
	onlyReads := intention("open", "web.default", "spiffe://b/*", policy.Allow, get)
	team := intention("open", "web.default", "spiffe://b/*", policy.Allow, policy.HTTPCondition{Headers: []policy.HeaderCondition{{Name: "x", Present: true}}})
	deny := intention("shut", "web.default", "spiffe://b/bad", policy.Deny)
	reads := wasSeen("web", "spiffe://b/web", "b", "GET", "/a", true, "allowed", "open")
	writes := wasSeen("web", "spiffe://b/web", "b", "POST", "/a", true, "allowed", "open")
	bad := wasSeen("web", "spiffe://b/bad", "b", "GET", "/a", true, "allowed", "open")
	own := wasSeen("db", "spiffe://a/web", "", "", "", true, "allowed", "")
	seen := []route.Sighting{
		reads, writes, bad, own,
		wasSeen("gone", "spiffe://b/web", "b", "", "", true, "allowed", "x"),
		wasSeen("web", "spiffe://c/web", "b", "", "", false, "caller_not_asserted", ""),
	}
	for name, tt := range map[string]struct {
		before, after []policy.Intention
		want          string // callers: service caller method before(rule)->after(rule)
		services      string
	}{
		"nothing":         {[]policy.Intention{open}, []policy.Intention{open}, "[]", "[]"},
		"another name":    {[]policy.Intention{open}, []policy.Intention{intention("renamed", "web.default", "spiffe://b/*", policy.Allow)}, "[]", "[]"},
		"all of it":       {[]policy.Intention{open}, nil, "[web.default spiffe://b/web GET allow(open)->deny() web.default spiffe://b/web POST allow(open)->deny() web.default spiffe://b/bad GET allow(open)->deny()]", "[web.default default_allow]"},
		"a deny":          {[]policy.Intention{open}, []policy.Intention{open, deny}, "[web.default spiffe://b/bad GET allow(open)->deny(shut)]", "[]"},
		"conditions":      {[]policy.Intention{open}, []policy.Intention{onlyReads}, "[web.default spiffe://b/web POST allow(open)->deny()]", "[]"},
		"fields unknown":  {[]policy.Intention{open}, []policy.Intention{team, deny}, "[web.default spiffe://b/web GET allow(open)->deny()? web.default spiffe://b/web POST allow(open)->deny()? web.default spiffe://b/bad GET allow(open)->deny(shut)]", "[]"},
		"the same fields": {[]policy.Intention{team}, []policy.Intention{team, intention("else", "db.default", "spiffe://a/web", policy.Allow)}, "[]", "[db.default default_deny]"},
		"own callers":     {[]policy.Intention{open}, []policy.Intention{open, intention("db", "db.default", "spiffe://a/other", policy.Allow)}, "[db.default spiffe://a/web  allow()->deny()]", "[db.default default_deny]"},
	} {
		t.Run(name, func(t *testing.T) {
			got := intentionImpact(tt.before, tt.after, seen, hosted)
			callers, services := []string{}, []string{}
			for _, c := range got.Callers {
				line := fmt.Sprintf("%s %s %s %s(%s)->%s(%s)", c.Service, c.Caller, c.Method, c.Before, c.BeforeRule, c.After, c.AfterRule)
				if c.Possible {
					line += "?"
				}
				callers = append(callers, line)
			}
			for _, s := range got.Services {
				services = append(services, s.Service.String()+" "+s.Fields[0])
			}
			if fmt.Sprint(callers) != tt.want || fmt.Sprint(services) != tt.services {
				t.Errorf("callers %v\nservices %v", callers, services)
			}
			if got.CallersTotal != len(got.Callers) || got.ServicesTotal != len(got.Services) || got.Truncated {
				t.Errorf("%+v", got)
			}
		})
	}
}

// The last verdict is what counts of a caller that was judged in two ways, and an
// answer is bounded.
func TestIntentionImpactIsBounded(t *testing.T) {
	hosted := []hostedService{{name: catalog.MustServiceName("web"), carriesHTTP: true}}
	var seen []route.Sighting
	for i := range 500 {
		s := wasSeen("web", fmt.Sprintf("spiffe://b/%d", i), "b", "GET", "/", true, "allowed", "open")
		earlier := s
		earlier.Allowed, earlier.Reason, earlier.Rule = false, "default_deny", ""
		earlier.LastSeen = s.LastSeen.Add(-time.Minute)
		seen = append(seen, earlier, s)
	}
	got := intentionImpact([]policy.Intention{intention("open", "web.default", "spiffe://b/*", policy.Allow)}, nil, seen, hosted)
	if got.CallersTotal != 500 || len(got.Callers) != resource.MaxImpact || !got.Truncated || got.Callers[0].Calls != 6 || got.Callers[0].Before != "allow" {
		t.Errorf("%d of %d, %+v", len(got.Callers), got.CallersTotal, got.Callers[0])
	}
	if none := intentionImpact(nil, nil, nil, hosted); len(none.Unknown) != 1 || none.IsZero() {
		t.Errorf("nothing was seen: %+v", none)
	}
}
