package discoverytest

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

const (
	// patience is what a source may take for anything: far above what any takes,
	// since a loaded machine is no failure.
	patience = 30 * time.Second
	// prompt is what a source may take to end.
	prompt = 10 * time.Second
	// quiet is how long a source that must publish nothing is watched after it
	// has noticed the fault.
	quiet = 300 * time.Millisecond
)

// Content is what a backend holds: the services' names, each with the addresses
// of its endpoints.
type Content map[string][]string

// Backend is what a source reads from, in the hands of the test.
type Backend struct {
	// Source reads from this backend and nothing else.
	Source discovery.Source
	// Set makes it hold exactly that.
	Set func(Content)
	// Fail makes every read fail until it is called with false.
	Fail func(bool)
	// Cut makes the backend hold the content, but break off every read of it in
	// the middle, until Set is called. Nil where a read cannot be cut.
	Cut func(Content)
	// PerService says that the source reads services one by one: between two
	// contents it may show some services of each, whole ones.
	PerService bool
	// Ignore names the backend's own goroutines that start during the test.
	Ignore []goleak.Option
}

// Source runs the contract test. fresh makes a backend that holds nothing and is
// gone at the end of its (sub)test. A source must notice a fault by itself and
// report it: by discovery.Reporter, or by an error of Run. Nothing runs in
// parallel, since leaked goroutines are looked for.
func Source(t *testing.T, fresh func(t *testing.T) Backend) {
	t.Helper()
	one := Content{"web": {"10.0.0.1:80", "10.0.0.2:80"}, "billing": {"10.0.0.3:81"}}
	two := Content{"web": {"10.0.0.1:80", "10.0.0.4:80"}, "orders": {"10.0.0.5:82"}}
	for _, c := range []struct {
		name string
		test func(r *run)
	}{
		{"publishes the first set, then changes", func(r *run) {
			r.Set(one)
			r.start()
			r.want(one)
			r.Set(two)
			r.want(two)
		}},
		{"publishes an empty set only when there is nothing", func(r *run) {
			r.start()
			r.want(Content{})
			r.Set(one)
			r.want(one)
			r.Set(Content{})
			r.want(Content{})
			r.neverShowed(one, Content{})
		}},
		{"publishes nothing before its first good read", func(r *run) {
			r.Set(one)
			r.Fail(true)
			r.start()
			r.troubled()
			if n := len(r.published()); n > 0 {
				r.t.Errorf("published %d snapshots of a backend that fails", n)
			}
			r.Fail(false)
			r.want(one)
		}},
		{"keeps the last good set while reads fail", func(r *run) {
			r.Set(one)
			r.start()
			r.want(one)
			r.Fail(true)
			r.troubled()
			r.neverShowed(one)
			r.Fail(false)
			r.Set(two)
			r.want(two)
			r.neverShowed(one, two)
		}},
		{"publishes nothing of a read that is cut", func(r *run) {
			if r.Cut == nil {
				r.t.Skip("a read of this source cannot be cut")
			}
			r.Set(one)
			r.start()
			r.want(one)
			r.Cut(two)
			r.troubled()
			if r.PerService {
				r.neverShowed(one, two) // what could be read
			} else {
				r.neverShowed(one)
			}
			r.Set(two)
			r.want(two)
			r.neverShowed(one, two)
		}},
		{"ends promptly, leaves nothing, publishes nothing afterwards", func(r *run) {
			r.Set(one)
			r.start()
			r.want(one)
			r.stop()
			n := len(r.published())
			r.Set(two)
			time.Sleep(quiet)
			if len(r.published()) != n {
				r.t.Error("published after Run had returned")
			}
		}},
		{"ends promptly while reads fail", func(r *run) {
			r.Fail(true)
			r.start()
			r.troubled()
			r.stop()
		}},
		{"runs again", func(r *run) {
			r.Set(one)
			r.start()
			r.want(one)
			r.stop()
			r.Set(two)
			r.start()
			r.want(two)
		}},
		{"ends at once when its context has ended", func(r *run) {
			ctx, cancel := context.WithCancel(r.t.Context())
			cancel()
			done := make(chan error, 1)
			go func() { done <- r.Source.Run(ctx, func(*catalog.Snapshot) {}) }()
			select {
			case err := <-done:
				if err != nil {
					r.t.Errorf("want nil, got %v", err)
				}
			case <-time.After(prompt):
				r.t.Fatal("Run goes on")
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &run{t: t, Backend: fresh(t), changed: make(chan struct{}, 1)}
			ignore := append(r.Ignore, goleak.IgnoreCurrent()) // the backend's own
			t.Cleanup(func() {
				r.stop()
				goleak.VerifyNone(t, ignore...)
			})
			c.test(r)
		})
	}
}

// ContentOf is the content that a snapshot shows.
func ContentOf(s *catalog.Snapshot) Content {
	c := Content{}
	for svc := range s.All() {
		addresses := []string{}
		for _, e := range svc.Endpoints {
			addresses = append(addresses, e.Address.String())
		}
		slices.Sort(addresses)
		c[svc.Name.Name()] = addresses
	}
	return c
}

// Services is the content as catalog services, for backends that hold these:
// each has the port "default", tcp.
func (c Content) Services() []*catalog.Service {
	var services []*catalog.Service
	for name, addresses := range c {
		svc := &catalog.Service{
			Name:  catalog.MustServiceName(name),
			Ports: []catalog.Port{{Name: catalog.DefaultPort, Protocol: catalog.TCP}},
		}
		for _, a := range addresses {
			svc.Endpoints = append(svc.Endpoints, catalog.Endpoint{
				ID: a, Port: catalog.DefaultPort, Address: netip.MustParseAddrPort(a), Weight: 1, Health: catalog.Unknown,
			})
		}
		services = append(services, svc)
	}
	slices.SortFunc(services, func(a, b *catalog.Service) int { return a.Name.Compare(b.Name) })
	return services
}

// String is one line, in order.
func (c Content) String() string {
	var parts []string
	for _, svc := range c.Services() {
		a := slices.Sorted(slices.Values(c[svc.Name.Name()]))
		parts = append(parts, fmt.Sprintf("%s=%s", svc.Name.Name(), strings.Join(a, ",")))
	}
	return "{" + strings.Join(parts, " ") + "}"
}
