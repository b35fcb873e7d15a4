package discovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// DefaultStaleAfter is the age of the last complete read at which a source that
// reports its reads is called stale: three of the longest blocking queries that
// Consul knows by default.
const DefaultStaleAfter = 15 * time.Minute

// RunnerOptions configure a Runner.
type RunnerOptions struct {
	// Name is the source's (DNS label, unique in the process); snapshots of any
	// other name are refused. Kind says what it is ("consul", "file", "exec").
	Name string
	Kind string
	// Source is run.
	Source Source
	// Publish receives what is in force whenever it changed: from one goroutine
	// at a time, and only while Run runs. It may call Status, no other method.
	Publish Publish
	// Gather is called when the source has published something, which waits for Take
	// then: of what a source publishes in a burst only the last is judged, and the
	// subscriber has one change. It must not block. nil judges everything at once.
	Gather func()
	// Ranges are the addresses that the source may publish.
	Ranges Ranges
	// Guard holds mass withdrawals back.
	Guard GuardOptions
	// Store keeps the last good snapshots; nil keeps none.
	Store *Store
	// StaleAfter is the age at which a read is stale; 0 is DefaultStaleAfter.
	StaleAfter time.Duration
	// Metrics are shared by all Runners of a process; nil counts nowhere.
	Metrics *Metrics
	// Log receives the log; nil discards it.
	Log *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Runner runs one source and keeps its catalog good: it loads the last good
// snapshot at the start, starts the source anew with back-off when it ends,
// leaves out addresses that it may not publish, holds mass withdrawals back, and
// keeps what is in force on disk.
type Runner struct {
	opts  RunnerOptions
	log   *slog.Logger
	saver *saver

	// turn is held by whoever changes what is in force, until it is published:
	// snapshots reach the subscriber in order.
	turn sync.Mutex

	mu        sync.Mutex // guards all below
	running   bool
	guard     *Guard
	filter    *rangeFilter
	published *catalog.Snapshot
	waiting   *catalog.Snapshot // for Take; nil where nothing is
	status    Status
	reading   bool // the source's Run is active
	offered   bool // in the active Run
	err       error
	reports   bool   // the source is a Reporter
	reported  string // the last error of it that was logged
}

// NewRunner checks the options; it starts nothing.
func NewRunner(o RunnerOptions) (*Runner, error) {
	var errs []error
	if _, err := catalog.ParseClusterName(o.Name); err != nil {
		errs = append(errs, fmt.Errorf("name %q: must be a DNS label", o.Name))
	}
	if o.Source == nil {
		errs = append(errs, errors.New("source: is missing"))
	}
	if o.Publish == nil {
		errs = append(errs, errors.New("publish: is missing"))
	}
	guard, err := NewGuard(o.Guard)
	errs = append(errs, err)
	if o.Metrics == nil {
		m, err := NewMetrics(nil)
		errs = append(errs, err)
		o.Metrics = m
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("source %q: %w", o.Name, err)
	}
	o.Guard = o.Guard.withDefaults()
	o.StaleAfter = cmp.Or(o.StaleAfter, DefaultStaleAfter)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	r := &Runner{opts: o, log: o.Log.With("source", o.Name), guard: guard, status: Status{Name: o.Name, Kind: o.Kind}}
	r.filter = newRangeFilter(o.Ranges, r.log)
	r.saver = newSaver(o.Store, r.storeResult)
	return r, nil
}

// Run runs the source until ctx ends and returns nil then, having waited for it.
func (r *Runner) Run(ctx context.Context) error {
	r.opts.Metrics.add(r)
	defer r.opts.Metrics.remove(r)
	r.start()
	defer r.stop()
	var wg sync.WaitGroup
	wg.Go(func() { r.supervise(ctx) })
	wg.Go(func() { r.reread(ctx) })
	wg.Go(func() { r.saver.run(ctx) })
	wg.Wait()
	return nil
}

// start publishes the last good snapshot, so that the process serves what it
// knew before anything is read.
func (r *Runner) start() {
	r.turn.Lock()
	defer r.turn.Unlock()
	var saved Saved
	var err error
	if r.opts.Store != nil && r.guard.Effective() == nil {
		saved, err = r.opts.Store.Load()
	}
	allowed := saved.Snapshot
	if allowed != nil {
		var rangeErr error
		allowed, rangeErr = r.filter.stored(allowed)
		err = errors.Join(err, rangeErr)
	}
	r.mu.Lock()
	r.running = true
	if err != nil {
		r.failed(failStore, err)
		r.status.StoreErr = err.Error()
	}
	if allowed != nil && allowed.Source() == r.opts.Name {
		r.guard.Seed(r.opts.Now(), allowed)
		r.status.LastSuccess = saved.At
		r.saver.last = saved.Snapshot
		r.log.Info("start from the last good snapshot on disk", "count", allowed.EndpointCount(), "duration", r.opts.Now().Sub(saved.At))
	}
	s := r.changed()
	r.mu.Unlock()
	if s != nil {
		r.opts.Publish(s)
	}
}

func (r *Runner) stop() {
	r.turn.Lock()
	defer r.turn.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = false
}

// supervise starts the source, and starts it anew when it ends.
func (r *Runner) supervise(ctx context.Context) {
	for attempt := 0; ctx.Err() == nil; attempt++ {
		r.mu.Lock()
		r.reading, r.offered = true, false
		r.mu.Unlock()
		began := time.Now()
		err := r.opts.Source.Run(ctx, r.offer)
		r.mu.Lock()
		r.reading = false
		r.mu.Unlock()
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("the source ended by itself")
		}
		r.mu.Lock()
		r.err = err
		r.status.Restarts++
		r.failed(failEnd, err)
		if r.offered && time.Since(began) >= restartMax {
			attempt = 0 // it worked; one that publishes and dies at once did not
		}
		r.mu.Unlock()
		delay := time.NewTimer(restartDelay(attempt, rand.Float64()))
		select {
		case <-ctx.Done():
		case <-delay.C:
		}
		delay.Stop()
	}
}

// reread notes what a Reporter says, and lets held withdrawals be confirmed: it
// asks the source to read anew, or takes its last word once more while it runs
// without an error.
func (r *Runner) reread(ctx context.Context) {
	ticker := time.NewTicker(max(r.opts.Guard.Window/time.Duration(r.opts.Guard.Reads), minPoll))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		reportErr := r.observe()
		if !r.holding() {
			continue
		}
		if again, ok := r.opts.Source.(Rereader); ok {
			again.Reread()
			continue
		}
		r.apply(func(now time.Time) error {
			if !r.reading || !r.offered || r.err != nil || reportErr != nil {
				return nil // its last word is no more than that
			}
			_, err := r.guard.Offer(now, r.filter.clean)
			return err
		})
	}
}

func (r *Runner) holding() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.guard.Held() > 0
}

// offer is the source's publish.
func (r *Runner) offer(s *catalog.Snapshot) {
	switch {
	case s == nil:
	case r.opts.Gather == nil:
		r.judge(s)
	default:
		r.mu.Lock()
		r.waiting = s // in place of one that was there: both are complete
		r.mu.Unlock()
		r.opts.Gather()
	}
}

// Take judges what the source has published since the last call, where the options
// have Gather. It returns once the subscriber has what comes of it.
func (r *Runner) Take() {
	r.mu.Lock()
	s := r.waiting
	r.waiting = nil
	r.mu.Unlock()
	if s != nil {
		r.judge(s)
	}
}

// judge puts a snapshot of the source in force, as far as the ranges and the guard
// let it.
func (r *Runner) judge(s *catalog.Snapshot) {
	r.apply(func(now time.Time) error {
		if s.Source() != r.opts.Name {
			err := fmt.Errorf("a snapshot of source %q was published by %q", s.Source(), r.opts.Name)
			r.failed(failName, err)
			r.err = err
			return nil
		}
		r.offered, r.err = true, nil
		r.status.LastSuccess = now
		allowed, err := r.filter.apply(s)
		if err == nil {
			_, err = r.guard.Offer(now, allowed)
		}
		return err
	})
}

// DataPathFailed tells that the data path cannot reach these endpoints of the
// source (by all gateways that try): those that are held are withdrawn. It is
// told again while it is true.
func (r *Runner) DataPathFailed(keys ...EndpointKey) {
	r.apply(func(time.Time) error { _, err := r.guard.Fail(keys...); return err })
}

// Release is the operator's word: what is held of these services, or of all if
// none is named, is withdrawn.
func (r *Runner) Release(services ...catalog.ServiceName) {
	r.apply(func(time.Time) error { _, err := r.guard.Release(services...); return err })
}

// apply lets change alter the guard, and publishes what comes of it.
func (r *Runner) apply(change func(now time.Time) error) {
	r.turn.Lock()
	defer r.turn.Unlock()
	r.mu.Lock()
	if !r.running {
		r.mu.Unlock()
		return
	}
	before := r.guard.Held()
	if err := change(r.opts.Now()); err != nil {
		r.failed(failGuard, err)
		r.err = err
	}
	if held := r.guard.Held(); held != before {
		r.log.Warn("hold endpoints that the source has withdrawn", "count", held)
	}
	s := r.changed()
	r.mu.Unlock()
	if s != nil {
		r.opts.Publish(s)
		r.saver.save(r.opts.Now(), s)
	}
}

// changed returns what is in force if the subscriber does not have it yet.
func (r *Runner) changed() *catalog.Snapshot {
	s := r.guard.Effective()
	if s == nil || s == r.published { // the guard makes another one of changes only
		return nil
	}
	r.published = s
	r.status.Version++
	r.opts.Metrics.updates.WithLabelValues(r.opts.Name).Inc()
	return s
}

// failed counts and logs; r.mu is held.
func (r *Runner) failed(what string, err error) {
	r.opts.Metrics.failures.WithLabelValues(r.opts.Name, what).Inc()
	r.log.Warn("source failed", "reason", what, "err", err)
}

// storeResult takes the outcome of a save.
func (r *Runner) storeResult(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.status.StoreErr = ""
		return
	}
	if r.status.StoreErr == "" { // a full disk is full for long
		r.log.Warn("the last good snapshot is not kept on disk", "err", err)
	}
	r.opts.Metrics.failures.WithLabelValues(r.opts.Name, failStore).Inc()
	r.status.StoreErr = err.Error()
}
