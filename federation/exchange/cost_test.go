package exchange_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/exchange"
)

// counter is an answer whose writes and flushes are counted.
type counter struct {
	header                http.Header
	writes, flushes, size atomic.Int64
}

func (c *counter) Header() http.Header { return c.header }
func (c *counter) WriteHeader(int)     {}
func (c *counter) Flush()              { c.flushes.Add(1) }

func (c *counter) Write(b []byte) (int, error) {
	c.writes.Add(1)
	c.size.Add(int64(len(b)))
	return len(b), nil
}

// told is an exporter with listeners that are all told the same.
type told struct {
	exporter  *exchange.Exporter
	services  []*catalog.Summary
	roster    []catalog.Gateway
	listeners []catalog.ClusterName
}

func newTold(t *testing.T, services, listeners int) *told {
	t.Helper()
	e, err := exchange.NewExporter(exchange.ExporterOptions{
		Cluster: "aws", Peer: func(r *http.Request) (catalog.ClusterName, error) { return catalog.ClusterName(r.Host), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	x := &told{exporter: e, roster: []catalog.Gateway{gateway("gw1")}}
	for i := range services {
		x.services = append(x.services, summary(fmt.Sprintf("s%05d.shop", i), 1))
	}
	for i := range listeners {
		x.listeners = append(x.listeners, catalog.ClusterName(fmt.Sprintf("p%03d", i)))
	}
	return x
}

// tell sets what all are told, with some services changed.
func (x *told) tell(t testing.TB, changed, ready int) {
	x.services = slices.Clone(x.services)
	for i := range changed {
		at := i * 7 % len(x.services)
		x.services[at] = summary(x.services[at].Service.String(), ready)
	}
	states := make(map[catalog.ClusterName]exchange.State, len(x.listeners))
	for _, p := range x.listeners {
		states[p] = exchange.State{Services: x.services, Gateways: x.roster}
	}
	if errs := x.exporter.SetAll(states); len(errs) > 0 {
		t.Error(errs)
	}
}

// Whatever a telling brings, each listener is written to once for it, with the
// same lines for all; a telling of nothing is none.
func TestATellingIsOneWriteForEachListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const listeners, tellings, changed = 50, 10, 40
		x := newTold(t, 400, listeners)
		x.tell(t, 0, 1)
		ctx, cancel := context.WithCancel(t.Context())
		answers := make([]*counter, listeners)
		for i, p := range x.listeners {
			answers[i] = &counter{header: http.Header{}}
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+string(p)+exchange.CatalogPath+"?watch=true&epoch=0&since=0", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			go x.exporter.ServeHTTP(answers[i], r)
		}
		time.Sleep(time.Second)
		type sums struct{ writes, flushes, size int64 }
		var before []sums
		for _, a := range answers {
			before = append(before, sums{a.writes.Load(), a.flushes.Load(), a.size.Load()})
		}
		for n := range tellings {
			x.tell(t, changed, n%2)
			time.Sleep(400 * time.Millisecond)
			x.tell(t, 0, 0) // nothing new
			time.Sleep(100 * time.Millisecond)
		}
		for i, a := range answers {
			writes, flushes, size := a.writes.Load()-before[i].writes, a.flushes.Load()-before[i].flushes, a.size.Load()-before[i].size
			if writes != tellings || flushes != tellings {
				t.Errorf("listener %d: %d writes and %d flushes for %d tellings", i, writes, flushes, tellings)
			}
			if by := size / (tellings * changed); by < 100 || by > 200 {
				t.Errorf("listener %d: %d bytes for a change", i, by)
			}
		}
		x.exporter.Close()
		cancel()
		synctest.Wait()
	})
}

// A telling costs what it changes and a little for each listener, and nothing for
// the services that stay: by allocations, of a small and of a large catalog.
func TestATellingAllocatesWhatItChanges(t *testing.T) {
	const changed = 10
	allocs := func(services, listeners int) float64 {
		x := newTold(t, services, listeners)
		x.tell(t, 0, 1)
		ready := 0
		return testing.AllocsPerRun(20, func() {
			ready++
			x.tell(t, changed, ready%9)
		})
	}
	small, large, many := allocs(500, 10), allocs(5000, 10), allocs(500, 200)
	t.Logf("figure: a telling of %d changes allocates %.0f times of 500 services to 10 listeners, %.0f of 5000 services, %.0f to 200 listeners", changed, small, large, many)
	if large > small+5 {
		t.Errorf("%.0f allocations with 5000 services, %.0f with 500", large, small)
	}
	if each := (many - small) / 190; each > 4 {
		t.Errorf("%.1f allocations for each listener more", each)
	}
}

// A batch is read without reflection but for its services: by allocations.
func TestABatchIsReadCheaply(t *testing.T) {
	begin := `{"type":"begin","format":1,"cluster":"gcp","epoch":7,"version":9,"delta":true,"since":8}`
	end := `{"type":"sync","epoch":7,"version":9,"services":10,"digest":"` + strings.Repeat("0a", 32) + `"}`
	got := testing.AllocsPerRun(100, func() {
		for _, line := range []string{begin, end} {
			if _, err := exchange.ParseEvent([]byte(line)); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Logf("figure: %.0f allocations for the first and the last line of a batch", got)
	if most := 10.0; got > most {
		t.Errorf("%.0f allocations, want at most %.0f", got, most)
	}
}
