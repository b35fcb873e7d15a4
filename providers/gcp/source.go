package gcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

const (
	// jitter is the share of the interval by which rounds are moved, so that
	// many readers of a project do not come in step.
	jitter = 0.1
	// dialTimeout and keepAlive find a host that is gone.
	dialTimeout = 5 * time.Second
	keepAlive   = 15 * time.Second
)

// Options of New.
type Options struct {
	// Name of the source, a DNS label.
	Name   string
	Config Config
	// Log receives the log; nil discards it.
	Log *slog.Logger
	// Registerer receives the metrics; nil registers none.
	Registerer prometheus.Registerer
}

// Source reads some projects of Google Cloud.
type Source struct {
	opts    Options
	log     *slog.Logger
	metrics *metrics
	kick    chan struct{}

	mu       sync.Mutex
	lastRead time.Time // of everything
	lastErr  error
	rejected int
}

var (
	_ discovery.Source   = (*Source)(nil)
	_ discovery.Reporter = (*Source)(nil)
	_ discovery.Rereader = (*Source)(nil)
)

// New checks the configuration; it makes no call and opens no file.
func New(o Options) (*Source, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	if _, err := catalog.NewSnapshot(o.Name, nil); err != nil {
		return nil, err
	}
	o.Config = o.Config.WithDefaults()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Source{opts: o, log: o.Log.With("source", o.Name), metrics: newMetrics(o.Name), kick: make(chan struct{}, 1)}
	if err := s.metrics.register(o.Registerer); err != nil {
		return nil, fmt.Errorf("gcp metrics: %w", err)
	}
	return s, nil
}

// Run implements discovery.Source. What it knows lasts from one round to the
// next, and ends with it.
func (s *Source) Run(ctx context.Context, publish discovery.Publish) error {
	if ctx.Err() != nil {
		return nil
	}
	c := s.opts.Config
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}).DialContext,
		TLSHandshakeTimeout: dialTimeout, ForceAttemptHTTP2: true,
		MaxIdleConnsPerHost: workers, IdleConnTimeout: 2 * c.Interval,
	}
	defer transport.CloseIdleConnections()
	keys := &keyring{path: c.CredentialsFile, client: &http.Client{Transport: transport, Timeout: c.Timeout}}
	projects, err := s.projects(ctx, keys, transport)
	if err != nil {
		return fmt.Errorf("gcp: %w", err)
	}
	var last *catalog.Snapshot
	poller := discovery.Poll(c.Interval, jitter, func(context.Context) (*catalog.Snapshot, error) {
		// Not in the poller's deadline: each call has its own, and a round that
		// takes long because of its pace must not lose its end every time.
		next, err := s.round(ctx, keys, projects, last)
		if err == nil {
			last = next
		}
		return next, err
	})
	var wg sync.WaitGroup
	inner, cancel := context.WithCancel(ctx)
	wg.Go(func() {
		for {
			select {
			case <-s.kick:
				poller.Reread()
			case <-inner.Done():
				return
			}
		}
	})
	err = poller.Run(ctx, publish)
	cancel()
	wg.Wait()
	return err
}

func (s *Source) projects(ctx context.Context, keys *keyring, transport http.RoundTripper) ([]*project, error) {
	c := s.opts.Config
	var out []*project
	for _, id := range c.Projects {
		count := s.metrics.requests.WithLabelValues(id).Inc
		border := &edge{keys: keys, next: transport, timeout: c.Timeout, count: count}
		sdk, err := newSDK(ctx, c, &http.Client{Transport: border, CheckRedirect: noRedirect})
		if err != nil {
			return nil, err
		}
		perSecond := rate.Limit(float64(c.RequestsPerMinute) / 60)
		out = append(out, &project{
			id: id, timeout: c.Timeout, rest: c.Interval, metrics: s.metrics, sdk: sdk, edge: border,
			limiter: rate.NewLimiter(perSecond, max(1, c.RequestsPerMinute/10)),
			slots:   make(chan struct{}, workers), known: newKnown(),
		})
	}
	return out, nil
}

// noRedirect: the edge gives every request the token, which is for Google alone.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// round reads all projects at once. It fails where nothing was read, or
// something never was; otherwise what failed is told by LastRead, beside a
// snapshot of what is new and what was last known.
func (s *Source) round(ctx context.Context, keys *keyring, projects []*project, last *catalog.Snapshot) (*catalog.Snapshot, error) {
	keys.reload(ctx)
	rounds := make([]*round, len(projects))
	_ = each(ctx, len(projects), func(ctx context.Context, i int) error {
		rounds[i] = &round{project: projects[i], config: s.opts.Config}
		rounds[i].read(ctx)
		return nil
	})
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var trouble []error
	fresh, whole := 0, true
	for _, r := range rounds {
		trouble = append(trouble, r.trouble...)
		fresh += r.fresh
		whole = whole && r.whole()
	}
	err := errs(trouble)
	if whole && (fresh > 0 || err == nil) {
		next, buildErr := s.snapshot(projects, last)
		if buildErr == nil {
			s.report(err)
			return next, nil
		}
		err = errors.Join(err, buildErr)
	}
	s.report(err)
	return nil, err
}

// snapshot maps what is known, sharing what did not change since last.
func (s *Source) snapshot(projects []*project, last *catalog.Snapshot) (*catalog.Snapshot, error) {
	b := newBuilder(s.opts.Config)
	next, err := catalog.NewSnapshot(s.opts.Name, b.build(projects))
	if err != nil {
		return nil, err
	}
	s.tell(b.rejected)
	if last == nil {
		return next, nil
	}
	d := catalog.Diff(last, next)
	return last.With(d.Upserts, d.Removes)
}

// tell counts what was left out, and logs it when its number changed.
func (s *Source) tell(rejected map[string]int) {
	total := 0
	for reason, n := range rejected {
		s.metrics.rejected.WithLabelValues(reason).Add(float64(n))
		total += n
	}
	if total != s.rejected && total > 0 {
		s.log.Warn("left out of the catalog what is no valid value in it", "count", total)
	}
	s.rejected = total
}

func (s *Source) report(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lastErr = err; err == nil {
		s.lastRead = time.Now()
	}
}

// LastRead implements discovery.Reporter: a round that had to keep something is
// no complete one.
func (s *Source) LastRead() (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastRead, s.lastErr
}

// Reread implements discovery.Rereader.
func (s *Source) Reread() {
	select {
	case s.kick <- struct{}{}:
	default: // asked for already
	}
}
