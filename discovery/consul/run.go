package consul

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

const (
	// resyncEvery is when everything is read again, whatever the triggers say.
	resyncEvery = 10 * time.Minute
	// settle lets changes that come together be read together.
	settle = 20 * time.Millisecond
	// patience is how many failed attempts at one service hold the others back.
	patience = 3
	// maxFailures ends a pass: a Consul that fails sixteen reads fails all.
	maxFailures = 16
)

// run is the state of one Run; all but triggers is the loop's own.
type run struct {
	*Source
	*triggers
	// read are results that wait until everything is read; a nil service is gone.
	read map[string]*catalog.Service
	// seen is the index of each service's last answer: an older one, of a server
	// that lags, is not applied.
	seen map[string]uint64
	// sidecars are those before each service, by the Consul service that they are
	// instances of; mesh is what is known of the service mesh.
	sidecars map[string]map[string][]sidecar
	mesh     mesh
	meshRead bool
	// failed counts the attempts at services that could not be read; they are
	// tried again at retryAt.
	failed  map[string]int
	retryAt time.Time
	// sweeping is set from the start of a sweep until all of it is read; whole,
	// when that was so once.
	sweeping, whole bool
	last            *catalog.Snapshot
	// repeat publishes also what did not change: the answer to a Reread.
	repeat bool
}

// loop reads what the triggers name and publishes what changed.
func (r *run) loop(ctx context.Context, publish discovery.Publish) {
	resync := time.NewTimer(jittered(resyncEvery, rand.Float64()))
	defer resync.Stop()
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		now := false
		select {
		case <-ctx.Done():
			return
		case <-resync.C:
			r.meshRead = false
			if r.list(ctx) {
				r.askSweep()
				resync.Reset(jittered(resyncEvery, rand.Float64()))
			} else {
				resync.Reset(jittered(backoffMax, rand.Float64()))
			}
		case <-r.reread:
			now = r.list(ctx)
			r.repeat = r.repeat || now
		case <-again.C:
		case <-r.wake:
			if !pause(ctx, settle) {
				return
			}
		}
		w := r.take(time.Now(), now)
		r.pass(ctx, &w)
		if ctx.Err() != nil {
			return
		}
		if r.complete() {
			r.publish(publish)
		}
		if next := r.next(w.again); next > 0 {
			again.Reset(next)
		}
	}
}

// list asks for the list of services, besides the watch: a complete read is not
// one without it.
func (r *run) list(ctx context.Context) bool {
	names, _, err := ask(ctx, r.Source, 0, r.listServices)
	if err != nil {
		r.note(partReads, err)
		return false
	}
	r.sawServices(names, arrival{})
	return true
}

// pass reads the work, and what failed before and is due.
func (r *run) pass(ctx context.Context, w *work) {
	if w.reset {
		clear(r.seen)
		r.meshRead = false // a datacenter that was made anew has another trust domain
	}
	dirty := w.dirty
	if len(r.failed) > 0 && !time.Now().Before(r.retryAt) {
		dirty = slices.AppendSeq(dirty, maps.Keys(r.failed))
	}
	if len(dirty) == 0 && len(w.swept) == 0 && !w.sweeping {
		return
	}
	r.sweeping = r.sweeping || w.sweeping
	ok := r.fetchAll(ctx, unique(dirty), false) && r.fetchAll(ctx, w.swept, true)
	if ctx.Err() != nil {
		return
	}
	if !ok { // broken off: not even tried is a part of it
		r.sweeping = false
		r.askSweep()
		w.again = minSweepGap
	}
	if len(r.failed) > 0 {
		attempts := slices.Max(slices.Collect(maps.Values(r.failed)))
		r.retryAt = time.Now().Add(backoff(attempts, rand.Float64()))
		return
	}
	r.note(partReads, nil)
	if r.sweeping {
		r.sweeping, r.whole = false, true
		r.metrics.sweeps.Inc()
	}
}

// fetchAll reads services from a bounded pool. It is false where the pass was
// broken off, since too much of it failed.
func (r *run) fetchAll(ctx context.Context, names []string, stale bool) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		answer
		err     error
		skipped bool
	}
	results := make([]result, len(names))
	var mu sync.Mutex
	failures := 0
	var pool errgroup.Group
	pool.SetLimit(r.view.fetchers)
	for i, name := range names {
		if name == machinery || !r.listed(name) {
			continue // nothing to ask for: the list is the word
		}
		pool.Go(func() error {
			if ctx.Err() != nil {
				results[i].skipped = true
				return nil
			}
			results[i].answer, results[i].err = r.readService(ctx, name, stale)
			if results[i].err != nil && r.listed(name) {
				mu.Lock()
				defer mu.Unlock()
				if failures++; failures >= maxFailures {
					cancel()
				}
			}
			return nil
		})
	}
	_ = pool.Wait() // no function of the pool returns an error
	var first error
	for i := range results {
		if res := &results[i]; res.err == nil && !res.skipped {
			res.err = r.needMesh(ctx, res.entries)
		}
	}
	for i, name := range names { // first of all: they say how instances of others are dialed
		if res := &results[i]; res.err == nil && !res.skipped && !r.older(name, res.answer, stale) {
			r.keepSidecars(name, res.entries, names)
		}
	}
	for i, name := range names {
		switch res := results[i]; {
		case res.skipped, res.err != nil && errors.Is(res.err, context.Canceled):
			r.failed[name] = max(r.failed[name], 1)
		case res.err != nil && r.listed(name):
			r.failed[name]++
			if first == nil {
				first = res.err
			}
		default:
			r.keep(name, res.answer, stale)
		}
	}
	if first != nil {
		r.note(partReads, first)
	}
	return failures < maxFailures
}

// older: the answer is of a server that lags behind what was read before.
func (r *run) older(name string, a answer, stale bool) bool {
	return stale && len(a.entries) > 0 && a.index < r.seen[name]
}

// keep converts an answer and lays it aside until all is read.
func (r *run) keep(name string, a answer, stale bool) {
	delete(r.failed, name)
	if len(a.entries) == 0 { // gone, as is what cannot be listed
		delete(r.seen, name)
		r.place(name, nil)
		r.read[name] = nil
		return
	}
	if r.older(name, a, stale) {
		return
	}
	r.seen[name] = a.index
	service, bad := r.opts.Config.convert(name, a.entries, around{
		view: r.view, home: r.view.home(r.opts.Locality), mesh: r.mesh, sidecars: r.sidecarsBefore(name),
	})
	r.tellRejected(name, bad)
	var nodes []string
	for _, e := range a.entries {
		if e.Node != nil && !slices.Contains(nodes, e.Node.Node) {
			nodes = append(nodes, e.Node.Node)
		}
	}
	r.place(name, nodes)
	r.sawRead(name, a.entries)
	r.read[name] = service
}

// complete reports whether what was read may be published: nothing is missing,
// or only services that have been tried often enough.
func (r *run) complete() bool {
	if !r.whole {
		return false
	}
	for _, attempts := range r.failed {
		if attempts < patience {
			return false
		}
	}
	return true
}

// next is when the loop goes on by itself; 0 is never.
func (r *run) next(sweep time.Duration) time.Duration {
	if len(r.failed) == 0 {
		return sweep
	}
	retry := max(time.Millisecond, time.Until(r.retryAt))
	if sweep == 0 {
		return retry
	}
	return min(sweep, retry)
}

// publish makes a snapshot of the last one and what was read since.
func (r *run) publish(publish discovery.Publish) {
	repeat := r.repeat && len(r.failed) == 0
	if len(r.read) == 0 && r.last != nil && !repeat {
		return
	}
	next, err := r.snapshot()
	if err != nil { // above the catalog's bounds as a whole
		r.note(partReads, err)
		return
	}
	clear(r.read)
	if repeat {
		r.repeat = false
	} else if r.last != nil && next.Equal(r.last) {
		return
	}
	r.last = next
	r.published()
	publish(next)
}

func (r *run) snapshot() (*catalog.Snapshot, error) {
	last := r.last
	if last == nil {
		empty, err := catalog.NewSnapshot(r.opts.Name, nil)
		if err != nil {
			return nil, err
		}
		last = empty
	}
	var upserts []*catalog.Service
	var removes []catalog.ServiceName
	for name, service := range r.read {
		id, err := catalog.NewServiceName(name, r.view.namespace)
		switch {
		case err != nil: // no catalog name, never was in
		case service == nil:
			removes = append(removes, id)
		default:
			if old := last.Get(id); old == nil || !old.Equal(service) { // else keep the shared one
				upserts = append(upserts, service)
			}
		}
	}
	return last.With(upserts, removes)
}

func unique(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}
