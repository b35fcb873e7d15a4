package dns

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

// Options of New.
type Options struct {
	// Name of the source, a DNS label.
	Name   string
	Config Config
	// Locality is the cluster's: the DNS knows none.
	Locality catalog.Locality
	// Log receives the log; nil discards it.
	Log *slog.Logger
	// Registerer receives the metrics; nil registers none.
	Registerer prometheus.Registerer
}

// Source is some names of the DNS.
type Source struct {
	opts    Options
	log     *slog.Logger
	metrics *metrics
	asker   *asker
	kick    chan struct{}

	mu       sync.Mutex
	lastRead time.Time
	lastErr  error
}

var (
	_ discovery.Source   = (*Source)(nil)
	_ discovery.Reporter = (*Source)(nil)
	_ discovery.Rereader = (*Source)(nil)
)

// New checks the configuration; it resolves nothing.
func New(o Options) (*Source, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, strictyaml.Within("dns", err)
	}
	if _, err := catalog.NewSnapshot(o.Name, nil); err != nil {
		return nil, err
	}
	o.Config = o.Config.WithDefaults()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Source{opts: o, log: o.Log.With("source", o.Name), metrics: newMetrics(o.Name), kick: make(chan struct{}, 1)}
	s.asker = &asker{timeout: o.Config.Timeout, tcp: o.Config.TCP, exchange: wire(o.Config.Timeout), metrics: s.metrics}
	for _, r := range o.Config.Resolvers {
		address, err := resolverAddress(r)
		if err != nil {
			return nil, err
		}
		s.asker.resolvers = append(s.asker.resolvers, address.String())
	}
	if err := s.metrics.register(o.Registerer); err != nil {
		return nil, fmt.Errorf("dns metrics: %w", err)
	}
	return s, nil
}

// LastRead implements discovery.Reporter.
func (s *Source) LastRead() (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastRead, s.lastErr
}

// Reread implements discovery.Rereader: every name is asked for at once.
func (s *Source) Reread() {
	select {
	case s.kick <- struct{}{}:
	default: // asked for already
	}
}

// maxTrouble bounds how many failing names are told of.
const maxTrouble = 20

// report tells how all names are; also is what else is wrong.
func (s *Source) report(names []*name, also error) {
	var errs []error
	read := true
	for _, n := range names {
		read = read && n.read
		if n.err != nil {
			errs = append(errs, n.err)
		}
	}
	s.metrics.failing.Set(float64(len(errs)))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lastErr = errors.Join(joined(errs), also); s.lastErr == nil && read {
		s.lastRead = time.Now()
	}
}

// joined is errors.Join of as many as one wants to read.
func joined(errs []error) error {
	if len(errs) > maxTrouble {
		errs = append(errs[:maxTrouble:maxTrouble], fmt.Errorf("and %d more names", len(errs)-maxTrouble))
	}
	return errors.Join(errs...)
}
