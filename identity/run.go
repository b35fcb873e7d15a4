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
	// overdueFraction of the life that an SVID had when it arrived may pass before
	// its renewal counts as overdue. Renewal is due at half; SPIRE spreads it over
	// 45 to 55 %, the embedded CA over 40 to 50 %, so that 60 % alarms nobody in vain.
	overdueFraction = 0.6
	// While renewal is overdue the watch is begun anew every so often: an agent that
	// hangs keeps its stream open and silent, and only a new one tells.
	minRewatch = time.Second
	maxRewatch = time.Minute
	// maxTimer bounds one wait of the overseer, since timers stand still while the
	// machine sleeps and certificates do not.
	maxTimer = time.Minute
	// Reconnecting of the gRPC channel below the watch: its default of up to two
	// minutes would outlast the life of short SVIDs.
	connectBase    = 100 * time.Millisecond
	connectMax     = 3 * time.Second
	connectTimeout = 5 * time.Second
)

// Run keeps SVID and bundles fresh until ctx ends, then returns nil. It must be
// called once. Whatever happens to the Workload API, what is held stays in use
// while it is valid; see the package's contracts.
func (s *Source) Run(ctx context.Context) error {
	if s.static {
		<-ctx.Done()
		return nil
	}
	rewatch := make(chan struct{}, 1)
	var wg sync.WaitGroup
	wg.Go(func() { s.oversee(ctx, rewatch) })
	s.watch(ctx, rewatch)
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
func (w watcher) OnX509ContextUpdate(c *workloadapi.X509Context) { w.s.apply(newOffer(c)) }

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
	s.log.Warn("workload api watch failed", "address", s.opts.WorkloadAPI, "err", err)
}

// apply takes one answer of the Workload API.
func (s *Source) apply(o offer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state.Load()
	next, err := st.accept(o, s.opts.ID, s.now())
	s.last.answered, s.last.offered, s.last.watch, s.last.update = true, o.ids(), nil, err
	if err != nil {
		s.metrics.offered(OriginWorkloadAPI, outcomeRefused)
		s.log.Warn("workload api update refused", "address", s.opts.WorkloadAPI, "err", err)
	}
	if next == nil {
		return
	}
	s.metrics.lastSuccess.Set(float64(s.now().Unix()))
	if next == st {
		if err == nil {
			s.metrics.offered(OriginWorkloadAPI, outcomeUnchanged)
		}
		return
	}
	if err == nil {
		s.metrics.offered(OriginWorkloadAPI, outcomeApplied)
	}
	if next.svid != st.svid {
		s.log.Info("svid updated", "spiffe_id", next.svid.ID.String(), "version", serial(next.svid),
			"duration", next.notAfter().Sub(s.now()))
	}
	s.saveCache(next)
	s.publish(next)
}

// oversee raises the alarm when the SVID is not renewed in time.
func (s *Source) oversee(ctx context.Context, rewatch chan<- struct{}) {
	updates, cancel := s.Updates()
	defer cancel()
	var reported lateness
	timedOut := false
	for {
		st, now := s.state.Load(), s.now()
		late, next := st.lateness(now)
		s.metrics.overdue.Set(btof(late != onTime))
		if late != reported {
			s.reportLateness(late, st, now)
			reported = late
		}
		if late != onTime && timedOut {
			select {
			case rewatch <- struct{}{}:
			default:
			}
		}
		timer := time.NewTimer(next)
		timedOut = false
		select {
		case <-updates:
		case <-timer.C:
			timedOut = true
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// lateness is how far renewal has fallen behind.
type lateness int

const (
	onTime lateness = iota
	overdue
	expired
)

// lateness judges the SVID at a moment, and says when to look again.
func (st *state) lateness(now time.Time) (lateness, time.Duration) {
	if st.svid == nil {
		return onTime, maxTimer // nothing to renew; WaitReady and Ready speak of that
	}
	life := st.notAfter().Sub(st.received)
	due := st.received.Add(time.Duration(float64(life) * overdueFraction))
	left := st.notAfter().Sub(now)
	switch {
	case left <= 0:
		return expired, maxRewatch
	case !now.Before(due):
		return overdue, min(max(left/2, minRewatch), maxRewatch, left)
	default:
		return onTime, min(due.Sub(now), maxTimer)
	}
}

func (s *Source) reportLateness(late lateness, st *state, now time.Time) {
	args := []any{"spiffe_id", st.svid.ID.String(), "address", s.opts.WorkloadAPI, "duration", st.notAfter().Sub(now)}
	switch late {
	case onTime:
		s.log.Info("svid renewal caught up", args...)
	case overdue:
		s.log.Warn("svid renewal overdue", args...)
	case expired:
		s.log.Error("svid expired", args...)
	}
}

func btof(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
