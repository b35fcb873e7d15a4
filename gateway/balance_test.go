package gateway_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

func TestRequestsOfOneConnectionAreBalancedAtTheFarEnd(t *testing.T) {
	near, _ := twoClusters(t, "web", catalog.HTTP, httpServer(t, who("a")), httpServer(t, who("b")), httpServer(t, who("c")))
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	for _, h2 := range []bool{false, true} {
		c := near.client()
		if h2 {
			c.Transport.(*http.Transport).Protocols = protocols
		}
		seen := make(map[string]int)
		// One after another: one connection. An endpoint whose first answer was slow
		// is left alone for some seconds, so this takes as many calls as it takes.
		eventually(t, "every endpoint is reached", func() error {
			status, _, body := get(t, c, "http://web.default.mesh/")
			if status != http.StatusOK {
				t.Fatal(status, body)
			}
			seen[parse(t, body).Name]++
			if len(seen) != 3 {
				return fmt.Errorf("http/2 %v: one connection reached %v", h2, seen)
			}
			return nil
		})
	}
}

func TestNamedPortsAndPins(t *testing.T) {
	w := newWorld(t, "alpha", "beta", "gamma")
	for _, c := range []catalog.ClusterName{"alpha", "beta", "gamma"} {
		w.cluster(c).host("web", catalog.HTTP, httpServer(t, who(string(c)+" main")))
		s := w.cluster(c).service("web")
		s.Ports = []catalog.Port{{Name: "admin", Protocol: catalog.HTTP}, {Name: "main", Protocol: catalog.HTTP}}
		s.Endpoints = append(s.Endpoints, catalog.Endpoint{
			ID: string(c) + "-admin", Port: "admin", Weight: 1, Health: catalog.Passing,
			Address: httpServer(t, who(string(c)+" admin")).(*net.TCPAddr).AddrPort(),
		})
		w.cluster(c).gateway("gw1")
	}
	w.start()
	c := w.cluster("alpha").gateways[0].client()
	for authority, want := range map[string]string{
		"_main.web.default.mesh":        "alpha main", // the own cluster is nearest
		"_admin.web.default":            "alpha admin",
		"_main.web.default.beta.mesh":   "beta main",
		"_admin.web.default.gamma.mesh": "gamma admin",
		"_admin.web.default.alpha.mesh": "alpha admin",
	} {
		for range 3 {
			status, _, body := get(t, c, "http://"+authority+"/")
			if got := parse(t, body).Name; status != http.StatusOK || got != want {
				t.Errorf("%s: %d %q, want %q", authority, status, got, want)
			}
		}
	}
	for authority, reason := range map[string]string{
		"web.default.mesh": "unknown_port", "_none.web.default.mesh": "unknown_port", "_main.web.default.delta.mesh": "no_candidate",
	} {
		if _, header, body := get(t, c, "http://"+authority+"/"); header.Get("Isthmus-Reason") != reason {
			t.Errorf("%s: %q %s", authority, header, body)
		}
	}
}

// TestNearestFirstThenFailoverThenRamp is the main job in one process: the own
// cluster while it is healthy, another when it dies, and a ramp back.
func TestNearestFirstThenFailoverThenRamp(t *testing.T) {
	w := newWorld(t, "alpha", "beta")
	local := httptest.NewServer(who("alpha"))
	defer local.Close()
	address := local.Listener.Addr()
	w.cluster("alpha").host("web", catalog.HTTP, address)
	w.cluster("beta").host("web", catalog.HTTP, httpServer(t, who("beta")))
	near := w.cluster("alpha").gateway("gw1")
	w.cluster("beta").gateway("gw1")
	w.start()
	c := near.client()
	count := func(n int) map[string]int {
		seen := make(map[string]int)
		for range n {
			status, header, body := get(t, c, "http://web.default.mesh/")
			if status != http.StatusOK {
				t.Fatalf("%d %v %s", status, header, body)
			}
			seen[parse(t, body).Name]++
		}
		return seen
	}
	if seen := count(50); seen["alpha"] != 50 {
		t.Fatalf("while the own endpoint is healthy: %v", seen)
	}
	local.CloseClientConnections()
	local.Close()
	if seen := count(50); seen["beta"] != 50 { // each found its way, by a retry or by the plan
		t.Fatalf("with the own endpoint dead: %v", seen)
	}
	again, err := net.Listen("tcp", address.String())
	if err != nil {
		t.Fatal(err)
	}
	back := httptest.NewUnstartedServer(who("alpha"))
	_ = back.Listener.Close()
	back.Listener = again
	back.Start()
	defer back.Close()
	shares := make(map[string]int)
	start := time.Now()
	eventually(t, "the load comes back", func() error {
		seen := count(20)
		if time.Since(start) < 500*time.Millisecond && seen["alpha"] > 0 {
			return fmt.Errorf("%d calls came back before the hold-down was over", seen["alpha"])
		}
		shares[fmt.Sprint(seen["alpha"])]++
		if seen["alpha"] != 20 {
			return fmt.Errorf("%v", seen)
		}
		return nil
	})
	t.Logf("shares of 20 on the way back: %v in %v", shares, time.Since(start))
}

func TestAFarGatewayTriesAnotherEndpoint(t *testing.T) {
	dead := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}
	near, _ := twoClusters(t, "web", catalog.HTTP, dead, httpServer(t, who("alive")))
	c := near.client()
	for range 20 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://web.default.mesh/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if status, header, body := do(t, c, req); status != http.StatusOK {
			t.Fatalf("%d %v %s", status, header, body)
		}
	}
	if n := near.metric("isthmus_gateway_retries_total"); n != 0 {
		t.Errorf("the near gateway retried %v times what the far one can do by itself", n)
	}
}

func TestReportsExplainWhatTheGatewaySees(t *testing.T) {
	near, w := twoClusters(t, "web", catalog.HTTP, httpServer(t, who("a")))
	for range 5 {
		get(t, near.client(), "http://web.default.mesh/")
	}
	target := route.Target{Service: catalog.MustServiceName("web"), Port: "main", Cluster: "beta"}
	eventually(t, "the report has the calls and the far word", func() error {
		r := near.reports.last()
		if r == nil {
			return errors.New("no report")
		}
		if len(r.Clusters) != 1 || r.Clusters[0].RTT <= 0 { // measured with the second probe
			return fmt.Errorf("%+v", r.Clusters)
		}
		for _, tr := range r.Targets {
			if tr.Target == target && tr.Requests == 5 && tr.Reported && tr.Ready == 1 && tr.Total == 1 && tr.EWMA > 0 && tr.InFlight == 0 {
				return nil
			}
		}
		return fmt.Errorf("%+v", r.Targets)
	})
	r := near.reports.last()
	if r.Gateway.Name != "gw1" || r.Gateway.ID != w.cluster("alpha").id()+"/gateway/gw1" || r.Gateway.Draining || r.Build != "test" ||
		r.Control != near.Addrs().Control.String() || r.Version == 0 || len(r.Gateway.Addresses) != 1 {
		t.Errorf("%+v", r)
	}
	if len(r.Clusters) != 1 || !r.Clusters[0].Up || r.Clusters[0].RTT <= 0 {
		t.Errorf("clusters: %+v", r.Clusters)
	}
	eventually(t, "the far gateway reports its endpoint", func() error {
		far := w.cluster("beta").gateways[0].reports.last()
		if far == nil || len(far.Endpoints) != 1 || !far.Endpoints[0].Healthy || far.Endpoints[0].Requests != 5 {
			return fmt.Errorf("%+v", far)
		}
		return nil
	})
}
