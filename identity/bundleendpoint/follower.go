package bundleendpoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// State says how a Follower fares.
type State string

// The states of a Follower.
const (
	Starting State = "starting" // no fetch has ended yet
	OK       State = "ok"
	Failing  State = "failing" // the last fetch failed; the last good bundle stays in force
)

// Status is what is known of an endpoint.
type Status struct {
	State State
	// FetchedAt is when the last good answer came, also before a restart; zero when
	// there was none. CheckedAt is when the last answer was asked for, Next when the
	// next one will be.
	FetchedAt, CheckedAt, Next time.Time
	// Sequence is the document's number, Refresh its hint, clamped.
	Sequence uint64
	Refresh  time.Duration
	// Err says why the last fetch failed; nil while OK.
	Err error
	// Failures counts those since the last good answer.
	Failures int
}

// FollowerOptions describe a Follower.
type FollowerOptions struct {
	// TrustDomain is the domain that the endpoint publishes.
	TrustDomain spiffeid.TrustDomain
	// Endpoint must have no problems.
	Endpoint Endpoint
	// Identity verifies servers of profile https_spiffe.
	Identity *identity.Source
	// Take makes a document the domain's bundle, or refuses it; see
	// [identity.Source.SetPeerBundle], whose rules it must have. It is called from
	// one goroutine.
	Take func(document []byte) error
	// File keeps the last good document, so that it holds over a restart; empty
	// keeps none. Its directory must exist.
	File string
	// Changed is told, from Run's goroutine, when State or Err's presence changes;
	// nil tells nobody.
	Changed func(Status)
	// Log receives the follower's log; nil discards it.
	Log *slog.Logger
	// Metrics may be shared by followers; nil counts nothing.
	Metrics *Metrics
	// Now is the clock, Random uniform in [0, 1); nil are the real ones.
	Now    func() time.Time
	Random func() float64
}

// Follower keeps up with one bundle endpoint.
type Follower struct {
	opts  FollowerOptions
	log   *slog.Logger
	fetch func(context.Context) ([]byte, error)
	nudge chan struct{}

	mu     sync.Mutex
	status Status
}

// NewFollower returns a Follower that has offered what File holds to Take. The
// error names what is wrong with the options; a bad File is logged and left out.
func NewFollower(opts FollowerOptions) (*Follower, error) {
	var errs []error
	for _, p := range opts.Endpoint.Problems() {
		errs = append(errs, fmt.Errorf("%s: %q: %s", p.Field, p.Value, p.Rule))
	}
	if opts.TrustDomain.IsZero() || opts.Take == nil || opts.Identity == nil {
		errs = append(errs, errors.New("trust domain, identity and take are required"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("bundle endpoint of %s: %w", opts.TrustDomain, err)
	}
	f := &Follower{opts: opts, log: opts.Log, nudge: make(chan struct{}, 1), status: Status{State: Starting}}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	f.log = f.log.With("trust_domain", opts.TrustDomain.Name(), "address", opts.Endpoint.URL)
	if f.opts.Now == nil {
		f.opts.Now = time.Now
	}
	if f.opts.Random == nil {
		f.opts.Random = rand.Float64
	}
	f.fetch = func(ctx context.Context) ([]byte, error) { return fetch(ctx, opts.Endpoint, opts.Identity) }
	f.load()
	f.opts.Metrics.begin(opts.TrustDomain, f.status.FetchedAt)
	return f, nil
}

// Status returns how the follower fares now.
func (f *Follower) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}

// Nudge has the endpoint asked now, and not when it is due.
func (f *Follower) Nudge() {
	select {
	case f.nudge <- struct{}{}:
	default: // one is pending
	}
}

// Run asks the endpoint at once, and then when it is due, until ctx ends; then it
// returns nil. It is called once.
func (f *Follower) Run(ctx context.Context) error {
	defer f.opts.Metrics.end(f.opts.TrustDomain)
	for {
		pause := f.refresh(ctx)
		if ctx.Err() != nil {
			return nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-f.nudge:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// refresh asks once and says how long to wait.
func (f *Follower) refresh(ctx context.Context) (pause time.Duration) {
	began := f.opts.Now()
	document, err := f.fetch(ctx)
	var offered identity.Bundle
	if err == nil {
		offered, err = identity.ParseBundle(f.opts.TrustDomain, document)
	}
	if err == nil {
		err = f.opts.Take(document)
	}
	if ctx.Err() != nil {
		return 0 // it was us who hung up
	}
	f.mu.Lock()
	before := f.status
	next := before
	next.CheckedAt, next.Err = began, err
	if err != nil {
		next.State, next.Failures = Failing, before.Failures+1
		pause = retryAfter(next.Failures, before.Refresh, f.opts.Random())
	} else {
		next.State, next.Failures, next.FetchedAt, next.Sequence = OK, 0, f.opts.Now(), offered.Sequence
		pause = refreshAfter(offered.RefreshHint, f.opts.Random())
		next.Refresh = min(max(offered.RefreshHint, minRefresh), maxRefresh)
		if offered.RefreshHint <= 0 {
			next.Refresh = defaultRefresh
		}
	}
	next.Next = f.opts.Now().Add(pause)
	f.status = next
	f.mu.Unlock()
	f.report(before, next)
	if err == nil {
		f.save(document, next.FetchedAt)
	}
	return pause
}

// report tells what has become of a fetch; a failure that goes on is told once.
func (f *Follower) report(before, after Status) {
	f.opts.Metrics.fetched(f.opts.TrustDomain, after)
	switch {
	case after.Err != nil && after.Failures == 1:
		f.log.Warn("bundle endpoint failing", "err", after.Err)
	case after.Err != nil:
		f.log.Debug("bundle endpoint still failing", "err", after.Err, "attempt", after.Failures)
	case before.Failures > 0:
		f.log.Info("bundle endpoint answers again", "attempt", before.Failures)
	}
	if f.opts.Changed != nil && before.State != after.State {
		f.opts.Changed(after)
	}
}
