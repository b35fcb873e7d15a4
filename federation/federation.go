package federation

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// identityWait bounds how long Run waits for the first SVID.
const identityWait = 30 * time.Second

// Federation is one cluster's control plane. New builds it, Run runs it.
type Federation struct {
	opts     Options
	log      *slog.Logger
	registry *prometheus.Registry
	ready    chan struct{}
	addrs    Addrs
}

// Addrs are what a Federation listens on, with the ports that were bound.
type Addrs struct {
	Mesh   net.Addr
	API    net.Addr // nil where no address is configured
	Socket net.Addr // nil where no socket is configured
}

// New checks the options and reports every problem at once. Nothing is opened
// before Run.
func New(opts Options) (*Federation, error) {
	opts.Config = opts.Config.WithDefaults()
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("federation: %w", err)
	}
	f := &Federation{opts: opts, log: opts.Log, registry: opts.Registry, ready: make(chan struct{})}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	if f.registry == nil {
		f.registry = prometheus.NewRegistry()
	}
	if f.opts.Now == nil {
		f.opts.Now = time.Now
	}
	return f, nil
}

// Ready is closed once every listener is bound and the last good state is
// loaded; Addrs may be read from then on.
func (f *Federation) Ready() <-chan struct{} { return f.ready }

// Addrs are valid once Ready is closed.
func (f *Federation) Addrs() Addrs { return f.addrs }

// Run serves until ctx ends, then stops in order and returns nil. It returns an
// error where it cannot start: an address in use, a store that is locked or
// damaged, no SVID in time.
func (f *Federation) Run(ctx context.Context) error {
	return nil
}
