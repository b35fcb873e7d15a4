package consul

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/consul/agent"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

// Options of New.
type Options struct {
	// Name of the source, a DNS label; of several sources what their names begin
	// with.
	Name   string
	Config Config
	// Locality is the cluster's: what neither Consul nor the configuration says of
	// an instance.
	Locality catalog.Locality
	// Log receives the log; nil discards it.
	Log *slog.Logger
	// Registerer receives the metrics; nil registers none.
	Registerer prometheus.Registerer
}

// Source is the catalog of one Consul datacenter, and namespace.
type Source struct {
	opts    Options
	view    view
	log     *slog.Logger
	metrics *metrics
	reread  chan struct{}

	client *api.Client // of the current Run

	mu       sync.Mutex
	whole    bool // published once
	lastRead time.Time
	errs     [parts]error
	rejected map[string]int // by service, as last told
}

// part is what can fail by itself.
type part int

const (
	partServices part = iota
	partChecks
	partReads
	parts
)

var (
	_ discovery.Source   = (*Source)(nil)
	_ discovery.Reporter = (*Source)(nil)
	_ discovery.Rereader = (*Source)(nil)
)

// New checks the configuration; it connects to nothing and opens no file. There is
// one source for each datacenter and namespace that the configuration lists, in
// that order; they share nothing but the agent.
func New(opts Options) ([]*Source, error) {
	if err := opts.Config.Validate(); err != nil {
		return nil, strictyaml.Within("consul", err)
	}
	opts.Config = opts.Config.WithDefaults()
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	base := opts.Name
	var sources []*Source
	for _, v := range opts.Config.views() {
		opts.Name = base + v.suffix
		if _, err := catalog.NewSnapshot(opts.Name, nil); err != nil {
			return nil, err
		}
		s := &Source{
			opts: opts, view: v, log: opts.Log.With("source", opts.Name), metrics: newMetrics(opts.Name),
			reread: make(chan struct{}, 1), rejected: map[string]int{},
		}
		if err := s.metrics.register(opts.Registerer); err != nil {
			return nil, fmt.Errorf("consul metrics: %w", err)
		}
		sources = append(sources, s)
	}
	return sources, nil
}

// Name is the source's own.
func (s *Source) Name() string { return s.opts.Name }

// Run implements discovery.Source. It returns an error only where the files of
// the TLS configuration cannot be used; everything else it lives through.
func (s *Source) Run(ctx context.Context, publish discovery.Publish) error {
	client, httpClient, err := agent.New(agent.Options{
		Config: s.opts.Config.Config, View: s.view.View, Conns: s.view.conns(), Idle: 2 * s.opts.Config.Wait,
		Requested: s.metrics.requests.Inc, Connected: func(open int) { s.metrics.connections.Set(float64(open)) },
	})
	if err != nil {
		return fmt.Errorf("consul: %w", err)
	}
	defer httpClient.CloseIdleConnections()
	s.client = client
	r := &run{
		Source: s, triggers: newTriggers(),
		read: map[string]*catalog.Service{}, seen: map[string]uint64{}, failed: map[string]int{},
		sidecars: map[string]map[string][]sidecar{},
	}
	var wg sync.WaitGroup
	wg.Go(func() { watch(ctx, s, partServices, s.listServices, r.sawServices) })
	wg.Go(func() { watch(ctx, s, partChecks, s.listChecks, r.sawChecks) })
	wg.Go(func() { r.loop(ctx, publish) })
	wg.Wait()
	return nil
}

// LastRead implements discovery.Reporter.
func (s *Source) LastRead() (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastRead, errors.Join(s.errs[:]...)
}

// Reread implements discovery.Rereader.
func (s *Source) Reread() {
	select {
	case s.reread <- struct{}{}:
	default: // asked for already
	}
}

// note keeps how the newest read of a part went. What fails is told by LastRead,
// and logged by whoever runs the source.
func (s *Source) note(p part, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.errs[p] = err; err == nil {
		if s.whole && errors.Join(s.errs[:]...) == nil {
			s.lastRead = time.Now()
		}
		return
	}
	s.metrics.failures.Inc()
	s.log.Debug("consul is not to be read", "err", err)
}

// published notes that everything was read.
func (s *Source) published() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.whole, s.lastRead = true, time.Now()
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
