package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/kubernetes/kubeapi"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

// agent is how the API server's logs call the source.
const agent = "isthmus-source"

// protobuf is what the server's own types are asked for in: half the bytes of JSON.
const protobuf = "application/vnd.kubernetes.protobuf"

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

// Source is one Kubernetes cluster.
type Source struct {
	opts    Options
	log     *slog.Logger
	metrics *metrics
	reread  chan struct{}

	mu       sync.Mutex
	client   kubernetes.Interface // once the configuration's files could be read
	http     *http.Client
	feeds    []*kubeapi.Feed // of the current or last Run
	past     uint64          // failures of the feeds before these
	lastErr  error           // of what is no feed's
	rejected map[string]int  // by service, as last told
}

var (
	_ discovery.Source   = (*Source)(nil)
	_ discovery.Reporter = (*Source)(nil)
	_ discovery.Rereader = (*Source)(nil)
)

// New checks the configuration; it connects to nothing and opens no file.
func New(opts Options) (*Source, error) {
	if err := opts.Config.Validate(); err != nil {
		return nil, strictyaml.Within("kubernetes", err)
	}
	if _, err := catalog.NewSnapshot(opts.Name, nil); err != nil {
		return nil, err
	}
	opts.Config = opts.Config.WithDefaults()
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	s := &Source{opts: opts, log: opts.Log.With("source", opts.Name), reread: make(chan struct{}, 1), rejected: map[string]int{}}
	s.metrics = newMetrics(s)
	if err := s.metrics.register(opts.Registerer); err != nil {
		return nil, fmt.Errorf("kubernetes metrics: %w", err)
	}
	return s, nil
}

// Run implements discovery.Source. It returns an error only where the files that
// the configuration names cannot be used; everything else it lives through.
func (s *Source) Run(ctx context.Context, publish discovery.Publish) error {
	client, closeIdle, err := s.connect()
	if err != nil {
		return fmt.Errorf("kubernetes: %w", err)
	}
	defer closeIdle()
	r, err := newRun(s, client)
	if err != nil {
		return err
	}
	s.mu.Lock()
	for _, f := range s.feeds {
		s.past += f.State().Failures
	}
	s.feeds, s.lastErr = r.feeds, nil
	s.mu.Unlock()
	var wg sync.WaitGroup
	for _, f := range r.feeds {
		wg.Go(func() { f.Run(ctx) })
	}
	wg.Go(func() { r.loop(ctx, publish) })
	wg.Wait()
	return nil
}

// connect makes the client once: client-go watches certificate files for as long as
// the process lives.
func (s *Source) connect() (kubernetes.Interface, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != nil {
		return s.client, s.http.CloseIdleConnections, nil
	}
	conf, err := s.opts.Config.REST(agent)
	if err != nil {
		return nil, nil, err
	}
	conf.ContentType, conf.AcceptContentTypes = protobuf, protobuf+",application/json"
	httpClient, err := kubeapi.Client(conf)
	if err != nil {
		return nil, nil, err
	}
	client, err := kubernetes.NewForConfigAndClient(conf, httpClient)
	if err != nil {
		return nil, nil, err
	}
	s.client, s.http = client, httpClient
	return client, httpClient.CloseIdleConnections, nil
}

// LastRead implements discovery.Reporter: a watch that runs is a read that goes on,
// so the time is when the feed that was silent longest was heard.
func (s *Source) LastRead() (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := []error{s.lastErr}
	var last time.Time
	whole := len(s.feeds) > 0
	for _, f := range s.feeds {
		st := f.State()
		errs = append(errs, st.Err)
		if whole = whole && st.Synced; last.IsZero() || st.Heard.Before(last) {
			last = st.Heard
		}
	}
	if !whole {
		last = time.Time{}
	}
	return last, errors.Join(errs...)
}

// Reread implements discovery.Rereader.
func (s *Source) Reread() {
	select {
	case s.reread <- struct{}{}:
	default: // asked for already
	}
}

func (s *Source) synced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.feeds {
		if !f.State().Synced {
			return false
		}
	}
	return len(s.feeds) > 0
}

func (s *Source) failures() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.past
	for _, f := range s.feeds {
		n += f.State().Failures
	}
	return n
}

func (s *Source) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastErr = err
}

// tellRejected counts what is left out of a service, and logs it when its number
// changed.
func (s *Source) tellRejected(service string, bad []rejected) {
	s.mu.Lock()
	before := s.rejected[service]
	s.rejected[service] = len(bad)
	if len(bad) == 0 {
		delete(s.rejected, service)
	}
	s.mu.Unlock()
	for _, b := range bad {
		s.metrics.rejected.WithLabelValues(b.reason).Inc()
	}
	if len(bad) > 0 && len(bad) != before {
		s.log.Warn("left out of the catalog what is no valid value in it",
			"service", service, "endpoint", bad[0].endpoint, "reason", bad[0].reason, "count", len(bad))
	}
}
