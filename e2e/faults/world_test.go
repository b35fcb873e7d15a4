package faults_test

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/wan"
	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

// The clusters: callers are at home, where nothing is served, and prefer first
// over second.
const (
	home   = "home"
	first  = "first"
	second = "second"
)

const (
	// patience is a caller's.
	patience = 10 * time.Second
	// within is generous for everything that takes seconds on an idle machine.
	within = time.Minute
	// oneWay is the distance between clusters where relays are between them.
	oneWay = 20 * time.Millisecond
	// warmUp is as long as a retry budget remembers: a fault meets a gateway that
	// has earned its retries.
	warmUp = 10 * time.Second
)

// options of a world.
type options struct {
	rate      int // calls a second
	gateways  int // of first; 0 is 1
	instances int // of each cluster that serves; 0 is 1
	relays    bool
	checked   bool // instances are checked by HTTP, not by a TCP connection
}

// world is three clusters under load.
type world struct {
	*stand.Stand
	t                   *testing.T
	home, first, second *stand.Cluster
	instances           map[string][]*instance
	load                *stand.Load
	began, struck       time.Time

	mu          sync.RWMutex
	there, back bool // cut, by relays
}

func newWorld(t *testing.T, o options) *world {
	t.Helper()
	w := &world{t: t, instances: map[string][]*instance{}}
	w.Stand = stand.New(t,
		stand.Spec{Name: home, Cloud: "aws", Region: "us-east-1", Zone: "a", TrustDomain: "aws.test"},
		stand.Spec{Name: first, Cloud: "aws", Region: "us-east-2", Zone: "b", TrustDomain: "aws.test", Gateways: o.gateways},
		stand.Spec{Name: second, Cloud: "gcp", Region: "us-central1", Zone: "c", TrustDomain: "gcp.test"},
	)
	w.home, w.first, w.second = w.Clusters[0], w.Clusters[1], w.Clusters[2]
	for _, c := range []*stand.Cluster{w.first, w.second} {
		service := stand.Service{Name: "web", Port: "main", Protocol: "http"}
		for n := range max(1, o.instances) {
			i := newInstance(t, w.Stand, c.Name, fmt.Sprintf("web%d", n+1))
			i.Start()
			w.instances[c.Name] = append(w.instances[c.Name], i)
			service.Addresses = append(service.Addresses, i.address.String())
		}
		c.WriteCatalog(t, service)
		if o.checked {
			c.Section()["traffic_policies"] = []any{stand.Object{
				"name": "check", "services": []any{"*"}, "health_check": stand.Object{"type": "http", "path": checkPath},
			}}
		}
	}
	w.home.Section()["traffic_policies"] = []any{stand.Object{"name": "order", "services": []any{"*"}, "clusters": []any{first, second}}}
	// The default would take minutes to bring calls back.
	w.home.Gateways[0].Section()["fail_back"] = stand.Object{"hold": "1s", "step": 0.5, "interval": "500ms"}
	if o.relays {
		w.relay()
	}
	for _, is := range w.instances {
		for _, i := range is {
			i.awaitReady(t)
		}
	}
	w.Start()

	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}}
	t.Cleanup(client.CloseIdleConnections)
	calls := call(client, w.home.Gateways[0].HTTP, "web.default.mesh")
	stand.Eventually(t, within, "first answers", func() error {
		who, err := calls(t.Context())
		if err == nil && who != first {
			err = fmt.Errorf("%s answers", who)
		}
		return err
	})
	w.load, w.began = stand.StartLoad(context.WithoutCancel(t.Context()), o.rate, patience, calls), time.Now()
	t.Cleanup(func() { w.load.Stop() })
	time.Sleep(warmUp)
	return w
}

// relay puts a relay before each gateway's link port, which peers dial instead.
func (w *world) relay() {
	w.t.Helper()
	cluster := map[netip.AddrPort]string{}
	public := map[string][]any{}
	for _, c := range w.Clusters {
		for _, g := range c.Gateways {
			cluster[g.Link] = c.Name
			r, err := wan.New(wan.Options{
				Listen: stand.FreePort(w.t), Target: g.Link,
				Delay: func(netip.AddrPort) time.Duration { return oneWay },
				Cut: func(source netip.AddrPort, back bool) bool {
					from, to := cluster[source], c.Name
					if back {
						from, to = to, from
					}
					return w.isCut(from, to)
				},
			})
			if err != nil {
				w.t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
			done := make(chan error, 1)
			go func() { done <- r.Run(ctx) }()
			w.t.Cleanup(func() {
				cancel()
				if err := <-done; err != nil {
					w.t.Error(err)
				}
			})
			g.Section()["advertise"] = []any{r.Addr().String()}
			public[c.Name] = append(public[c.Name], r.Addr().String())
		}
	}
	for _, c := range w.Clusters {
		for _, p := range c.Section()["peers"].([]any) {
			peer := p.(stand.Object)
			peer["gateways"] = public[peer["name"].(string)]
		}
	}
}

// cutByRelays loses what goes from home to first, and what comes back.
func (w *world) cutByRelays(there, back bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.there, w.back = there, back
}

func (w *world) isCut(from, to string) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return from == home && to == first && w.there || from == first && to == home && w.back
}
