package identity

import (
	"context"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
)

const (
	// Reconnecting of the gRPC channel below the watch: its default of up to two
	// minutes would outlast the life of short SVIDs.
	connectBase    = 100 * time.Millisecond
	connectMax     = 3 * time.Second
	connectTimeout = 5 * time.Second
)

// Run keeps SVID and bundles fresh until ctx ends, then returns nil. It must be
// called once. Whatever happens to the Workload API or the files, what is held stays in use
// while it is valid; see the package's contracts.
func (s *Source) Run(ctx context.Context) error {
	if s.static {
		<-ctx.Done()
		return nil
	}
	rewatch := make(chan struct{}, 1)
	var wg sync.WaitGroup
	wg.Go(func() { s.oversee(ctx, rewatch) })
	switch {
	case s.opts.Feed != nil:
		s.followFeed(ctx, rewatch)
	case s.opts.Files != nil:
		s.followFiles(ctx)
	default:
		s.watch(ctx, rewatch)
	}
	wg.Wait()
	return nil
}

// watch follows the Workload API for as long as ctx lives. go-spiffe's own loop
// ends for good on some codes (Canceled, which a server sends while it shuts
// down, and InvalidArgument); this one does not.
func (s *Source) watch(ctx context.Context, rewatch <-chan struct{}) {
	backoff := newBackoff()
	for ctx.Err() == nil {
		again := s.watchOnce(ctx, rewatch)
		if again {
			backoff.Reset()
			continue
		}
		pause(ctx, backoff.Next())
	}
}

// watchOnce runs one go-spiffe client until it gives up or rewatch asks for a
// fresh one, which it reports.
func (s *Source) watchOnce(ctx context.Context, rewatch <-chan struct{}) (again bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client, err := workloadapi.New(ctx,
		workloadapi.WithAddr(s.opts.WorkloadAPI),
		workloadapi.WithBackoffStrategy(newBackoff()),
		workloadapi.WithDialOptions(
			grpc.WithNoProxy(), // a proxy from the environment must not see our key
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           grpcbackoff.Config{BaseDelay: connectBase, Multiplier: 1.6, Jitter: 0.2, MaxDelay: connectMax},
				MinConnectTimeout: connectTimeout,
			})))
	if err != nil {
		s.watchFailed(err)
		return false
	}
	defer func() { _ = client.Close() }()

	var wg sync.WaitGroup
	defer wg.Wait()
	done := make(chan struct{})
	defer close(done)
	asked := make(chan struct{})
	wg.Go(func() {
		select {
		case <-rewatch:
			close(asked)
			cancel()
		case <-done:
		}
	})
	err = client.WatchX509Context(ctx, watcher{ctx, s})
	select {
	case <-asked:
		return true
	default:
		if ctx.Err() == nil {
			s.watchFailed(err)
		}
		return false
	}
}

// watcher receives from go-spiffe, on one goroutine.
type watcher struct {
	ctx context.Context // go-spiffe's callbacks have none
	s   *Source
}

// OnX509ContextUpdate implements workloadapi.X509ContextWatcher.
func (w watcher) OnX509ContextUpdate(c *workloadapi.X509Context) {
	w.s.apply(newOffer(c, w.s.opts.WorkloadAPI))
}

// OnX509ContextWatchError implements workloadapi.X509ContextWatcher.
func (w watcher) OnX509ContextWatchError(err error) {
	if w.ctx.Err() == nil {
		w.s.watchFailed(err)
	}
}

func (s *Source) watchFailed(err error) {
	s.metrics.watchErrors.Inc()
	s.mu.Lock()
	s.last.watch = err
	s.mu.Unlock()
	s.sourceFails()
	s.log.Warn("workload api watch failed", "address", s.opts.WorkloadAPI, "err", err)
}

// apply takes one complete offer: an answer of the Workload API, or the files.
func (s *Source) apply(o offer) {
	next, err := s.decide(o)
	if err != nil {
		s.metrics.offered(o.origin, outcomeRefused)
		switch o.origin {
		case OriginFiles:
			s.log.Warn("identity files refused", "path", o.where, "err", err)
		case OriginFeed:
			s.log.Warn("identity of a feed refused", "source", o.where, "err", err)
		default:
			s.log.Warn("workload api update refused", "address", o.where, "err", err)
		}
	}
	if next == nil {
		s.sourceFails()
	}
}

// decide changes the state to what an offer makes of it; nil is an offer that was
// refused as a whole.
func (s *Source) decide(o offer) (next *state, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state.Load()
	next, err = st.accept(o, s.opts.ID, s.now())
	s.last.answered, s.last.offered, s.last.watch, s.last.update = true, o.ids(), nil, err
	if next == nil {
		return nil, err
	}
	s.sourceWorks()
	s.metrics.lastSuccess.Set(float64(s.now().Unix()))
	if next == st {
		if err == nil {
			s.metrics.offered(o.origin, outcomeUnchanged)
		}
		return next, err
	}
	if err == nil {
		s.metrics.offered(o.origin, outcomeApplied)
	}
	if next.svid != st.svid {
		s.log.Info("svid updated", "spiffe_id", next.svid.ID.String(), "version", serial(next.svid),
			"duration", next.notAfter().Sub(s.now()))
	}
	s.saveCache(next)
	s.publish(next)
	return next, err
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
