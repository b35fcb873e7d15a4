package consul

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

// Options of New.
type Options struct {
	// Name of the source, a DNS label.
	Name   string
	Config Config
	// Locality is the cluster's: what Consul does not say of an instance.
	Locality   catalog.Locality
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Source is one Consul datacenter's catalog.
type Source struct {
	opts    Options
	client  *api.Client
	http    *http.Client
	log     *slog.Logger
	metrics *metrics
	reread  chan struct{}

	mu       sync.Mutex
	lastRead time.Time
	lastErr  error
}

var (
	_ discovery.Source   = (*Source)(nil)
	_ discovery.Reporter = (*Source)(nil)
	_ discovery.Rereader = (*Source)(nil)
)

// New checks the configuration; it connects to nothing.
func New(opts Options) (*Source, error) {
	if err := opts.Config.Validate(); err != nil {
		return nil, strictyaml.Within("consul", err)
	}
	opts.Config = opts.Config.WithDefaults()
	client, httpClient, err := opts.Config.newClient()
	if err != nil {
		return nil, fmt.Errorf("consul: %w", err)
	}
	s := &Source{opts: opts, client: client, http: httpClient, log: opts.Log, metrics: newMetrics(opts.Name), reread: make(chan struct{}, 1)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.metrics.register(opts.Registerer); err != nil {
		return nil, fmt.Errorf("consul metrics: %w", err)
	}
	return s, nil
}

// LastRead implements discovery.Reporter.
func (s *Source) LastRead() (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastRead, s.lastErr
}

// Reread implements discovery.Rereader.
func (s *Source) Reread() {
	select {
	case s.reread <- struct{}{}:
	default: // asked for already
	}
}

// note keeps how the newest read went.
func (s *Source) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastErr = err
	if err == nil {
		s.lastRead = time.Now()
	}
}

// Run implements discovery.Source. It returns an error when Consul has failed
// three times in a row; the caller starts it again, after a while, and keeps what
// was published.
func (s *Source) Run(ctx context.Context, publish discovery.Publish) error {
	defer s.http.CloseIdleConnections()
	r := &run{source: s, services: map[string]*catalog.Service{}, wake: make(chan struct{}, 1)}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return s.watch(ctx, "services", func(q *api.QueryOptions) (*api.QueryMeta, error) {
			names, meta, err := s.client.Catalog().Services(q)
			r.pendingNames = names
			return meta, err
		}, r.sawServices)
	})
	group.Go(func() error {
		return s.watch(ctx, "checks", func(q *api.QueryOptions) (*api.QueryMeta, error) {
			checks, meta, err := s.client.Health().State(api.HealthAny, q)
			r.pendingChecks = checks
			return meta, err
		}, r.sawChecks)
	})
	group.Go(func() error { return r.loop(ctx, publish) })
	return group.Wait()
}
