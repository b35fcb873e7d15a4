package policy_test

import (
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/isthmus-mesh/isthmus/federation/policy"
)

func TestPriorityOfACall(t *testing.T) {
	p := policy.NewPrioritizer([]policy.PriorityRule{
		{HTTP: []policy.HTTPCondition{{PathPrefix: "/batch/"}}, Priority: policy.LowPriority},
		{Callers: []policy.IDPattern{"spiffe://a.test/web"}, FromRequest: true, Priority: policy.CriticalPriority},
		{Callers: []policy.IDPattern{"spiffe://a.test/*"}},
		{Priority: policy.LowPriority},
	})
	web, other, stranger := spiffeid.RequireFromString("spiffe://a.test/web"), spiffeid.RequireFromString("spiffe://a.test/x"), spiffeid.RequireFromString("spiffe://b.test/x")
	request := func(path string, priority ...string) *policy.HTTPRequest {
		h := map[string][]string{}
		if len(priority) > 0 {
			h["Priority"] = priority
		}
		r := policy.NewHTTPRequest("GET", path, h)
		return &r
	}
	for _, c := range []struct {
		name    string
		caller  spiffeid.ID
		request *policy.HTTPRequest
		want    policy.CallPriority
	}{
		{"by its path", web, request("/batch/1"), policy.LowPriority},
		{"by its caller", web, request("/"), policy.CriticalPriority},
		{"a connection", web, nil, policy.CriticalPriority},
		{"as it says itself", web, request("/", "u=5, i"), policy.LowPriority},
		{"the last word counts", web, request("/", "u=5", "i, u=4"), policy.DefaultPriority},
		{"what is not understood says nothing", web, request("/", "u=9, u=x, urgent"), policy.CriticalPriority},
		{"who is not believed", other, request("/", "u=0"), policy.DefaultPriority},
		{"anybody else", stranger, request("/", "u=0"), policy.LowPriority},
		{"nobody", spiffeid.ID{}, nil, policy.LowPriority},
	} {
		if got := p.Of(c.caller, c.request); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if got := new(policy.Prioritizer).Of(web, nil); got != policy.DefaultPriority {
		t.Errorf("without rules: %s", got)
	}
}

func TestCapacityIsValidated(t *testing.T) {
	base := policy.Traffic{Name: "t", Services: []policy.ServicePattern{"*"}}
	for want, change := range map[string]func(*policy.Traffic){
		"capacity.per_endpoint":    func(t *policy.Traffic) { t.Capacity = &policy.Capacity{} },
		"at most 16":               func(t *policy.Traffic) { t.Priorities = make([]policy.PriorityRule, 17) },
		"priorities[0].callers[0]": func(t *policy.Traffic) { t.Priorities = []policy.PriorityRule{{Callers: []policy.IDPattern{"web"}}} },
		"priorities[0].priority":   func(t *policy.Traffic) { t.Priorities = []policy.PriorityRule{{Priority: "urgent"}} },
		"priorities[0].http[0].path": func(t *policy.Traffic) {
			t.Priorities = []policy.PriorityRule{{HTTP: []policy.HTTPCondition{{Path: "x"}}}}
		},
	} {
		bad := base
		change(&bad)
		if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	base.Capacity = &policy.Capacity{PerEndpoint: 100}
	base.Priorities = []policy.PriorityRule{{Callers: []policy.IDPattern{"spiffe://a.test/*"}, Priority: policy.CriticalPriority, FromRequest: true}}
	if err := base.Validate(); err != nil || base.PerEndpoint() != 100 {
		t.Error(err)
	}
}

func FuzzUrgency(f *testing.F) {
	f.Add("u=3, i")
	f.Add("u=0;x,u=")
	p := policy.NewPrioritizer([]policy.PriorityRule{{FromRequest: true}})
	f.Fuzz(func(t *testing.T, field string) {
		r := policy.NewHTTPRequest("GET", "/", map[string][]string{"Priority": {field}})
		switch p.Of(spiffeid.ID{}, &r) {
		case policy.CriticalPriority, policy.DefaultPriority, policy.LowPriority:
		default:
			t.Errorf("%q has a priority that is none", field)
		}
	})
}
