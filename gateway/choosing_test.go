package gateway_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// labelled gives the endpoints of a service a version each, in order, which its
// exports publish.
func (c *cluster) labelled(service string, versions ...string) *cluster {
	s := c.service(service)
	s.SubsetLabels = []string{"version"}
	for i, v := range versions {
		s.Endpoints[i].Labels = map[string]string{"version": v}
	}
	return c
}

func (c *cluster) policy(service string, t policy.Traffic) *cluster {
	t.Name, t.Services = "test", []policy.ServicePattern{policy.ServicePattern(service + ".default")}
	if c.traffic == nil {
		c.traffic = make(map[string]*policy.Traffic)
	}
	c.traffic[service] = &t
	return c
}

// ask sends a request with some fields, and says who answered.
func (n *node) ask(t *testing.T, c *http.Client, fields ...string) (who string, status int, header http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://web.default.mesh/", nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Add(fields[i], fields[i+1])
	}
	status, header, body := do(t, c, req)
	if status == http.StatusOK {
		who = parse(t, body).Name
	}
	return who, status, header
}

func TestSubsetsByHeaderAcrossClusters(t *testing.T) {
	w := newWorld(t, "alpha", "beta", "gamma")
	dying := httptest.NewServer(who("gamma-v2"))
	defer dying.Close()
	w.cluster("beta").host("web", catalog.HTTP, httpServer(t, who("beta-v1")), httpServer(t, who("beta-v2"))).labelled("web", "v1", "v2")
	w.cluster("gamma").host("web", catalog.HTTP, dying.Listener.Addr()).labelled("web", "v2")
	version := func(v string) map[string]string { return map[string]string{"version": v} }
	w.cluster("alpha").policy("web", policy.Traffic{
		Clusters: []catalog.ClusterName{"gamma", "beta"},
		Subsets: &policy.Subsets{Header: "X-Version", List: []policy.Subset{
			{Name: "stable", Labels: version("v1"), Weight: 1}, {Name: "next", Labels: version("v2")}, {Name: "gone", Labels: version("v3")},
		}},
	})
	near := w.cluster("alpha").gateway("gw1")
	w.cluster("beta").gateway("gw1")
	w.cluster("gamma").gateway("gw1")
	w.start()
	c := near.client()
	for range 20 {
		if got, status, header := near.ask(t, c, "X-Version", "next"); got != "gamma-v2" {
			t.Fatalf("next went to %q: %d %v", got, status, header)
		}
		// The first cluster of the order has no such endpoint, so it is no candidate.
		if got, status, header := near.ask(t, c, "X-Version", "stable"); got != "beta-v1" {
			t.Fatalf("stable went to %q: %d %v", got, status, header)
		}
		// The weights send all that name none to stable; unknown names count as none.
		for _, fields := range [][]string{nil, {"X-Version", "whatever"}} {
			if got, status, header := near.ask(t, c, fields...); got != "beta-v1" {
				t.Fatalf("%v went to %q: %d %v", fields, got, status, header)
			}
		}
	}
	if got, status, header := near.ask(t, c, "X-Version", "gone"); status != http.StatusServiceUnavailable || header.Get("Isthmus-Reason") != "no_candidate" {
		t.Errorf("a part that is nowhere: %q, %d, %v", got, status, header)
	}
	// The part dies in one cluster: its calls go to the other one's endpoints of it, and
	// to no others.
	dying.CloseClientConnections()
	dying.Close()
	for range 20 {
		if got, status, header := near.ask(t, c, "X-Version", "next"); got != "beta-v2" {
			t.Fatalf("after its end in gamma next went to %q: %d %v", got, status, header)
		}
	}
}

func TestStickyByCookieAcrossClusters(t *testing.T) {
	w := newWorld(t, "alpha", "beta", "gamma")
	servers := make(map[string]*httptest.Server)
	for _, name := range []catalog.ClusterName{"beta", "gamma"} {
		w.cluster(name).host("web", catalog.HTTP)
		s := w.cluster(name).service("web")
		for i := range 4 { // without one of them a cluster is as good as whole
			id := fmt.Sprintf("%s-%d", name, i)
			servers[id] = httptest.NewServer(who(id))
			defer servers[id].Close()
			s.Endpoints = append(s.Endpoints, catalog.Endpoint{
				ID: id, Port: "main", Address: plain(servers[id].Listener.Addr()), Weight: 1, Health: catalog.Passing,
			})
		}
		w.cluster(name).gateway("gw1")
		w.cluster(name).gateway("gw2")
	}
	w.cluster("alpha").policy("web", policy.Traffic{Algorithm: policy.Maglev, Sticky: []policy.StickyKey{
		{Cookie: &policy.StickyCookie{Name: "sid", TTLSeconds: 3600, Path: "/"}},
	}})
	near, other := w.cluster("alpha").gateway("gw1"), w.cluster("alpha").gateway("gw2")
	w.start()
	c, c2 := near.client(), other.client()

	homes := make(map[string]string) // by cookie
	clusters := make(map[string]bool)
	for range 40 {
		got, status, header := near.ask(t, c)
		cookie, err := http.ParseSetCookie(header.Get("Set-Cookie"))
		if err != nil || cookie.Name != "sid" || cookie.MaxAge != 3600 || !cookie.HttpOnly || cookie.Path != "/" || got == "" {
			t.Fatalf("%q, %d, %v: %v", got, status, header, err)
		}
		homes["sid="+cookie.Value] = got
		clusters[got[:4]] = true
	}
	if len(homes) != 40 || len(clusters) != 2 {
		t.Fatalf("40 callers are at %v", homes)
	}
	stay := func(when, dead string) {
		t.Helper()
		for cookie, home := range homes {
			for i, ask := range []func() (string, int, http.Header){
				func() (string, int, http.Header) { return near.ask(t, c, "Cookie", "a=b; "+cookie) },
				func() (string, int, http.Header) { return other.ask(t, c2, "Cookie", cookie) },
			} {
				got, status, header := ask()
				if header.Get("Set-Cookie") != "" {
					t.Fatalf("%s: a caller with a cookie gets another one", when)
				}
				if home == dead {
					if got == dead || got == "" {
						t.Fatalf("%s: %s went to %q: %d %v", when, cookie, got, status, header)
					}
				} else if got != home {
					t.Fatalf("%s: by gateway %d %s went to %q, home is %q: %d %v", when, i+1, cookie, got, home, status, header)
				}
			}
		}
	}
	stay("while all is well", "")

	// Another endpoint dies: whose home it was goes elsewhere, nobody else moves.
	const dead = "beta-1"
	servers[dead].CloseClientConnections()
	servers[dead].Close()
	stay("at once after another endpoint's death", dead)
	eventually(t, "the health check finds it", func() error {
		for _, g := range w.cluster("beta").gateways {
			if g.metric("isthmus_gateway_endpoint_healthy") >= 4 {
				return fmt.Errorf("%s takes all for healthy", g.name)
			}
		}
		return nil
	})
	stay("once it is known to be dead", dead)
}

func TestDistributeWithFailover(t *testing.T) {
	w := newWorld(t, "alpha", "beta", "gamma")
	for _, name := range []catalog.ClusterName{"alpha", "beta", "gamma"} {
		w.cluster(name).host("web", catalog.HTTP, httpServer(t, who(string(name))))
		w.cluster(name).gateway("gw1")
	}
	w.cluster("alpha").policy("web", policy.Traffic{Distribute: []policy.Distribution{
		{From: "cloud0", To: []policy.Share{{Locality: "cloud1/region1", Weight: 3}, {Cluster: "gamma", Weight: 1}}},
	}})
	w.start()
	near := w.cluster("alpha").gateways[0]
	c := near.client()
	count := func(n int) map[string]int {
		seen := make(map[string]int)
		for range n {
			got, status, header := near.ask(t, c)
			if got == "" {
				t.Fatal(status, header)
			}
			seen[got]++
		}
		return seen
	}
	// 300 draws of 3 in 4: 225 give or take 45 is six times the standard deviation.
	if seen := count(300); seen["alpha"] > 0 || seen["beta"] < 180 || seen["beta"] > 270 {
		t.Errorf("three to one gives %v", seen)
	}
	w.cluster("beta").gateways[0].kill()
	eventually(t, "beta is found dead", func() error {
		if seen := count(20); seen["beta"] > 0 {
			return fmt.Errorf("%v", seen)
		}
		return nil
	})
	// What is named goes on, what is not named fills in: gamma is half of the endpoints
	// of the split, so that 1.4 x 50 % stay there.
	if seen := count(300); seen["gamma"] < 160 || seen["alpha"] < 40 {
		t.Errorf("with beta dead: %v", seen)
	}
	w.cluster("gamma").gateways[0].kill()
	eventually(t, "the rest takes over", func() error {
		if seen := count(20); seen["alpha"] != 20 {
			return fmt.Errorf("%v", seen)
		}
		return nil
	})
}

func TestResidencyRefusesToLeave(t *testing.T) {
	w := newWorld(t, "alpha", "beta", "gamma")
	for _, name := range []catalog.ClusterName{"beta", "gamma"} {
		w.cluster(name).host("web", catalog.HTTP, httpServer(t, who(string(name))))
		w.cluster(name).gateway("gw1")
	}
	near := w.cluster("alpha").policy("web", policy.Traffic{
		Residency: &policy.Residency{Regions: []string{"cloud1/region1"}},
	}).gateway("gw1")
	w.start()
	c := near.client()
	for range 20 {
		if got, status, header := near.ask(t, c); got != "beta" {
			t.Fatalf("went to %q: %d %v", got, status, header)
		}
	}
	status, header, _ := get(t, c, "http://web.default.gamma.mesh/")
	if status != http.StatusServiceUnavailable || header.Get("Isthmus-Reason") != "residency" {
		t.Errorf("a request that names a cluster outside: %d %v", status, header)
	}
	w.cluster("beta").gateways[0].kill()
	var reasons []string
	eventually(t, "the refusal says why", func() error {
		got, status, header := near.ask(t, c)
		if got == "gamma" {
			t.Fatal("the call left")
		}
		reason := header.Get("Isthmus-Reason")
		if !slices.Contains(reasons, reason) {
			reasons = append(reasons, reason)
		}
		if reason != "residency" || status != http.StatusServiceUnavailable {
			return fmt.Errorf("%q, %d, %s", got, status, reason)
		}
		return nil
	})
	t.Logf("reasons on the way: %v", reasons)
	for range 50 {
		if got, _, header := near.ask(t, c); got != "" || header.Get("Isthmus-Reason") != "residency" {
			t.Fatalf("went to %q: %v", got, header)
		}
	}
}
