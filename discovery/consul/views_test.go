package consul_test

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/consul"
	"github.com/isthmus-mesh/isthmus/discovery/consul/agent"
	"github.com/isthmus-mesh/isthmus/discovery/discoverytest"
)

// Partition and namespace are Enterprise's: opaque keys, sent with every request of
// the sources that are configured with them, and with none else.
func TestTenancyIsSentWhereItIsConfigured(t *testing.T) {
	t.Setenv("CONSUL_NAMESPACE", "elsewhere")
	t.Setenv("CONSUL_PARTITION", "elsewhere")
	f := newFake(t, one)
	f.views = map[string]discoverytest.Content{
		"/eu/team_a": {"web": {"10.1.0.1:80"}},
		"/eu/Team-B": {"web": {"10.2.0.1:80"}, "db": {"10.2.0.2:5432"}},
		"/eu/empty":  {},
	}
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("t"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := quick(f)
	c.TokenFile, c.Partition = token, "eu"
	c.Namespaces = []consul.Namespace{{Name: "team_a", As: "payments"}, {Name: "Team-B", As: "shop"}, {Name: "empty"}}
	all := startAll(t, c)
	if got := slices.Sorted(maps.Keys(all)); !slices.Equal(got, []string{"consul-empty", "consul-team-a", "consul-team-b"}) {
		t.Fatalf("sources %v", got)
	}
	all["consul-team-a"].await(t, "payments", func(s *catalog.Snapshot) bool {
		svc := s.Get(catalog.MustServiceName("web.payments"))
		return s.Len() == 1 && svc != nil && svc.Endpoints[0].Address.String() == "10.1.0.1:80"
	})
	all["consul-team-b"].await(t, "shop", func(s *catalog.Snapshot) bool {
		return s.Len() == 2 && s.Get(catalog.MustServiceName("web.shop")) != nil && s.Get(catalog.MustServiceName("db.shop")) != nil
	})
	all["consul-empty"].await(t, "an empty namespace", func(s *catalog.Snapshot) bool { return s.Len() == 0 })
	f.mu.Lock()
	for _, q := range f.queries {
		if q.Get("partition") != "eu" || !slices.Contains([]string{"team_a", "Team-B", "empty"}, q.Get("ns")) {
			t.Errorf("a request with %v", q)
		}
	}
	f.queries = nil
	f.mu.Unlock()

	// Without a token an empty list may as well be what an ACL has left.
	c.TokenFile, c.Namespaces = "", []consul.Namespace{{Name: "empty"}}
	r := startAll(t, c)["consul-empty"]
	for n := 0; ; n++ {
		if _, err := r.source.LastRead(); err != nil {
			break
		}
		if n > 500 {
			t.Fatal("an empty list is believed without a token")
		}
		pause()
	}
	if r.count() != 0 {
		t.Errorf("published %s", text(r.last()))
	}
	f.mu.Lock()
	f.queries = nil
	f.mu.Unlock()
	start(t, quick(f)).want(t, one)
	f.mu.Lock()
	defer f.mu.Unlock()
	plain := 0
	for _, q := range f.queries {
		if q.Get("ns") != "empty" && (q.Has("ns") || q.Has("partition") || q.Has("dc")) {
			t.Errorf("a request with %v", q)
		} else if !q.Has("ns") {
			plain++
		}
	}
	if plain == 0 {
		t.Error("no request without tenancy")
	}
}

// Whatever befalls one of several datacenters: the others are followed, what was
// known of it stays, its source alone tells of it, and it is followed again later.
func TestOneDatacenterOfSeveralFails(t *testing.T) {
	t.Parallel()
	for name, fault := range faults() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, nil)
			f.views = map[string]discoverytest.Content{"dc1//": one, "dc2//": one}
			c := quick(f)
			c.Datacenters = []consul.Datacenter{{Name: "dc1"}, {Name: "dc2"}}
			all := startAll(t, c)
			first, second := all["consul-dc1"], all["consul-dc2"]
			first.want(t, one)
			second.want(t, one)
			f.fail(func(w http.ResponseWriter, r *http.Request, path string) bool {
				return r.URL.Query().Get("dc") == "dc2" && fault(w, r, path)
			})
			second.await(t, "trouble", func(*catalog.Snapshot) bool { _, err := second.source.LastRead(); return err != nil })
			f.change(func() {
				f.views = map[string]discoverytest.Content{"dc1//": two, "dc2//": two}
				f.index++
			})
			first.want(t, two)
			if got := discoverytest.ContentOf(second.last()).String(); second.count() != 1 || got != one.String() {
				t.Errorf("of the one that fails: %s", got)
			}
			first.await(t, "no trouble of the one that does not", func(*catalog.Snapshot) bool { _, err := first.source.LastRead(); return err == nil })
			f.fail(nil)
			second.want(t, two)
		})
	}
}

// Nothing is made of what a server thinks the time is.
func TestAServersClockMeansNothing(t *testing.T) {
	t.Parallel()
	for _, date := range []string{"Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 2099 23:59:59 GMT", "tomorrow"} {
		t.Run(date, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, one)
			f.fail(func(w http.ResponseWriter, _ *http.Request, _ string) bool {
				w.Header().Set("Date", date)
				w.Header().Set("Age", "99999999")
				return false
			})
			r := start(t, quick(f))
			r.want(t, one)
			f.change(func() { f.content, f.index = two, f.index+1 })
			r.want(t, two)
			r.await(t, "a fresh read without trouble", func(*catalog.Snapshot) bool {
				at, err := r.source.LastRead()
				return err == nil && time.Since(at) < time.Minute
			})
		})
	}
}

func TestViewsAreChecked(t *testing.T) {
	many := make([]consul.Datacenter, 17)
	for i := range many {
		many[i].Name = fmt.Sprint("dc", i)
	}
	for field, c := range map[string]consul.Config{
		"datacenter":              {Datacenter: "dc1", Datacenters: []consul.Datacenter{{Name: "dc1"}}},
		"datacenters[0].name":     {Datacenters: []consul.Datacenter{{Name: "a b"}}},
		"datacenters[0].locality": {Datacenters: []consul.Datacenter{{Name: "a", Locality: "A/B"}}},
		"datacenters[0].labels":   {Datacenters: []consul.Datacenter{{Name: "a", Labels: map[string]string{"a b": "c"}}}},
		"is given twice":          {Datacenters: []consul.Datacenter{{Name: "a_b"}, {Name: "A-b"}}},
		"partition":               {Partition: "a/b"},
		"namespaces[0].name":      {Namespaces: []consul.Namespace{{Name: "*"}}},
		"namespaces[0].as":        {Namespaces: []consul.Namespace{{Name: "Team_A"}}},
		"at most 32":              {Datacenters: many, Namespaces: []consul.Namespace{{Name: "a"}, {Name: "b"}}},
		"connect":                 {Connect: "envoy"},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	ok := consul.Config{Config: agent.Config{}, Datacenters: []consul.Datacenter{{Name: "dc1"}, {Name: "dc_2"}}, Namespaces: []consul.Namespace{{Name: "a"}}}
	if got := ok.SourceNames("consul"); ok.Validate() != nil || !slices.Equal(got, []string{"consul-dc1-a", "consul-dc-2-a"}) {
		t.Errorf("%v, %v", got, ok.Validate())
	}
}
