package gateway_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// Two clusters declare that an endpoint takes four calls at once, of which a gateway
// uses three: alpha's callers fill their own, then what beta grants over the link, and
// the next one is told to stay away.
func TestWhatFitsNowhereIsShedAtTheSource(t *testing.T) {
	release := make(chan struct{})
	var mu sync.Mutex
	held := make(map[string]int)
	hold := func(name string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/hold" {
				mu.Lock()
				held[name]++
				mu.Unlock()
				<-release
			}
			who(name)(w, r)
		}
	}
	w := newWorld(t, "alpha", "beta")
	for _, c := range []catalog.ClusterName{"alpha", "beta"} {
		w.cluster(c).host("web", catalog.HTTP, httpServer(t, hold(string(c))))
		w.cluster(c).traffic = map[string]*policy.Traffic{"web": {
			Name: "web", Services: []policy.ServicePattern{"web.default"}, Capacity: &policy.Capacity{PerEndpoint: 4},
		}}
		w.cluster(c).gateway("gw1")
	}
	w.start()
	near := w.cluster("alpha").gateways[0]
	eventually(t, "beta grants what it has to spare", func() error {
		for _, target := range near.reports.last().Targets {
			if target.Target.Cluster == "beta" && target.Room != nil && target.Room.Granted == 3 {
				return nil
			}
		}
		return fmt.Errorf("targets %+v", near.reports.last().Targets)
	})
	c := near.client()
	var calls sync.WaitGroup
	for range 6 {
		calls.Go(func() {
			if status, header, body := get(t, c, "http://web.default.mesh/hold"); status != http.StatusOK {
				t.Error(status, header, body)
			}
		})
	}
	eventually(t, "both clusters are full", func() error {
		mu.Lock()
		defer mu.Unlock()
		if held["alpha"] != 3 || held["beta"] != 3 {
			return fmt.Errorf("held %v", held)
		}
		return nil
	})
	status, header, body := get(t, c, "http://web.default.mesh/")
	if status != http.StatusServiceUnavailable || header.Get("Isthmus-Reason") != "shed" || header.Get("Retry-After") == "" {
		t.Errorf("one call more: %d %v %s", status, header, body)
	}
	if n := near.metric("isthmus_gateway_shed_total", "service=web.default", "side=own", "priority=default"); n != 1 {
		t.Errorf("%v calls are counted as shed", n)
	}
	if n := near.metric("isthmus_gateway_ejections_total"); n != 0 {
		t.Errorf("%v ejections", n)
	}
	close(release)
	calls.Wait()
	eventually(t, "there is room again", func() error {
		if status, _, body := get(t, c, "http://web.default.mesh/"); status != http.StatusOK {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
}
