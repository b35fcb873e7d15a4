package consul

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

const (
	// resyncEvery is when everything is read again, whatever the triggers say.
	resyncEvery = 10 * time.Minute
	// sweepRate bounds sweeps to that many service reads a second on average.
	sweepRate = 500
	// settle lets changes that come together be read together.
	settle = 20 * time.Millisecond
)

// run is the state of one Run.
type run struct {
	source *Source
	wake   chan struct{}
	// written by their watch only, between its query and its call of changed
	pendingNames  map[string][]string
	pendingChecks api.HealthChecks

	mu sync.Mutex
	// names are Consul's services as last listed; nil before the first list.
	names map[string][]string
	// checks are the fingerprints of every service's checks, and of every node's.
	checks map[string]string
	dirty  map[string]bool
	// sweep asks for a pass over all services.
	sweep bool

	// the loop's own
	services map[string]*catalog.Service
	nodes    map[string][]string
	swept    time.Time
	last     *catalog.Snapshot
	have     bool
	// repeat publishes also what did not change: the answer to a Reread.
	repeat bool
}

func (r *run) mark(names ...string) {
	if r.dirty == nil {
		r.dirty = map[string]bool{}
	}
	for _, n := range names {
		r.dirty[n] = true
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// sawServices compares the list with the one before. The index also moves when a
// registration changed in a way that the list does not show, hence the sweep.
func (r *run) sawServices() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, tags := range r.pendingNames {
		if before, ok := r.names[name]; !ok || !slices.Equal(before, tags) {
			r.mark(name)
		}
	}
	for name := range r.names {
		if _, ok := r.pendingNames[name]; !ok {
			r.mark(name)
		}
	}
	r.names, r.sweep = r.pendingNames, true
	r.mark()
}

// sawChecks marks the services whose checks changed, and those on nodes whose
// checks changed.
func (r *run) sawChecks() {
	prints := map[string]string{}
	for _, c := range r.pendingChecks {
		key := "service " + c.ServiceName
		if c.ServiceName == "" {
			key = "node " + c.Node
		}
		prints[key] += fmt.Sprintf("%s/%s/%s=%s\n", c.Node, c.ServiceID, c.CheckID, c.Status)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, p := range prints {
		if r.checks[key] != p {
			r.markKey(key)
		}
	}
	for key := range r.checks {
		if _, ok := prints[key]; !ok {
			r.markKey(key)
		}
	}
	r.checks = prints
}

func (r *run) markKey(key string) {
	if node, ok := strings.CutPrefix(key, "node "); ok {
		r.mark(r.nodes[node]...)
		return
	}
	r.mark(strings.TrimPrefix(key, "service "))
}

// loop reads what was marked and publishes what changed.
func (r *run) loop(ctx context.Context, publish discovery.Publish) error {
	resync := time.NewTicker(jittered(resyncEvery))
	defer resync.Stop()
	sweep := time.NewTimer(0) // set again whenever a sweep is put off
	<-sweep.C
	defer sweep.Stop()
	failures := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-resync.C:
			r.mu.Lock()
			r.sweep = true
			r.mu.Unlock()
		case <-r.source.reread:
			r.mu.Lock()
			r.sweep = true
			r.mu.Unlock()
			r.swept, r.repeat = time.Time{}, true
		case <-sweep.C:
		case <-r.wake:
			if !pause(ctx, settle) {
				return nil
			}
		}
		names, sweeping, later := r.take(time.Now())
		if later > 0 {
			sweep.Reset(later)
		}
		if len(names) == 0 && !sweeping {
			continue
		}
		if err := r.read(ctx, names); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			failures++
			r.source.metrics.failures.Inc()
			r.source.note(err)
			if failures >= patience {
				return err
			}
			r.source.log.Warn("consul read failed", "source", r.source.opts.Name, "err", err, "attempt", failures)
			r.again(names, sweeping)
			if !pause(ctx, backoff(failures)) {
				return nil
			}
			continue
		}
		failures = 0
		if sweeping {
			r.source.note(nil)
			r.swept = time.Now()
			r.source.metrics.sweeps.Inc()
		}
		if err := r.publish(publish); err != nil {
			return err
		}
	}
}

// take returns what to read now. A sweep that comes too soon after the one
// before is put off by later.
func (r *run) take(now time.Time) (names []string, sweeping bool, later time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.names == nil {
		return nil, false, 0 // the first list has not come yet; it wakes the loop
	}
	if r.sweep {
		gap := max(time.Second, time.Duration(len(r.names))*time.Second/sweepRate)
		if wait := gap - now.Sub(r.swept); r.have && wait > 0 {
			later = wait
		} else {
			r.sweep, sweeping = false, true
			r.mark(slices.Collect(maps.Keys(r.names))...)
		}
	}
	names = slices.Sorted(maps.Keys(r.dirty))
	r.dirty = nil
	return names, sweeping, later
}

// again puts back what could not be read.
func (r *run) again(names []string, sweeping bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep = r.sweep || sweeping
	r.mark(names...)
}
