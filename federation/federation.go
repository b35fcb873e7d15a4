package federation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"reflect"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/api"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
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

	mu    sync.Mutex // serialises Run's start and Reload
	plane *plane     // while Run runs
}

// Addrs are what a Federation listens on, with the ports that were bound.
type Addrs struct {
	Mesh   net.Addr
	API    net.Addr // nil where no address is configured
	Socket net.Addr // nil where no socket is configured
	MTLS   net.Addr // of the API; nil where it is not configured
	Admin  net.Addr // of health and metrics, nil where none is configured
	Bundle net.Addr // of the bundle endpoint, nil where none is configured
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
// loaded; Addrs may be read from then on. Whether the federation does its whole
// work is what GET /readyz says.
func (f *Federation) Ready() <-chan struct{} { return f.ready }

// Addrs are valid once Ready is closed.
func (f *Federation) Addrs() Addrs { return f.addrs }

// doors are the bound listeners.
type doors struct {
	mesh, socket, loopback, mtls, admin, bundle net.Listener
}

func (d *doors) close() {
	for _, l := range []net.Listener{d.mesh, d.socket, d.loopback, d.mtls, d.admin, d.bundle} {
		if l != nil {
			_ = l.Close()
		}
	}
}

// Run serves until ctx ends, then stops in order and returns nil. It returns an
// error where it cannot start: an address in use, a store that is locked or
// damaged, no SVID in time. It is called once.
func (f *Federation) Run(ctx context.Context) error {
	if err := f.awaitName(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("federation: identity: %w", err)
	}
	if err := os.MkdirAll(f.opts.Config.DataDir, 0o700); err != nil {
		return fmt.Errorf("federation: data directory: %w", err)
	}
	p, err := newPlane(ctx, f.opts, f.log, f.registry)
	if err != nil {
		return fmt.Errorf("federation: %w", err)
	}
	// Last of all: whatever runs may still write to it.
	defer func() {
		if err := errors.Join(p.audit.Close(), p.store.Close()); err != nil {
			f.log.Error("store not closed", "err", err)
		}
	}()
	d, err := f.open()
	if err != nil {
		return fmt.Errorf("federation: %w", err)
	}
	if err := f.serve(ctx, p, d); err != nil {
		return fmt.Errorf("federation: %w", err)
	}
	return nil
}

// awaitName waits for the first SVID where nothing else says what the federation
// is called. Where the identity was asked for by name, the API serves without
// one, and says so when asked whether it is ready; the mesh listener refuses
// every handshake until the SVID is there.
func (f *Federation) awaitName(ctx context.Context) error {
	if !f.opts.Identity.ID().IsZero() {
		return nil
	}
	wait, cancel := context.WithTimeoutCause(ctx, identityWait, fmt.Errorf("no svid within %v", identityWait))
	defer cancel()
	return f.opts.Identity.WaitReady(wait)
}

// open binds every listener, or none.
func (f *Federation) open() (_ *doors, err error) {
	c := f.opts.Config
	d := &doors{}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.mesh, err = net.Listen("tcp", c.Listen); err != nil {
		return nil, err
	}
	f.addrs.Mesh = d.mesh.Addr()
	if c.API.Socket != "" {
		if d.socket, err = api.ListenSocket(c.API.Socket); err != nil {
			return nil, err
		}
		f.addrs.Socket = d.socket.Addr()
	}
	if c.API.Address != "" {
		if d.loopback, err = net.Listen("tcp", c.API.Address); err != nil {
			return nil, err
		}
		f.addrs.API = d.loopback.Addr()
	}
	if c.API.MTLS.Address != "" {
		if d.mtls, err = net.Listen("tcp", c.API.MTLS.Address); err != nil {
			return nil, err
		}
		f.addrs.MTLS = d.mtls.Addr()
	}
	if c.API.Admin != "" {
		if d.admin, err = net.Listen("tcp", c.API.Admin); err != nil {
			return nil, err
		}
		f.addrs.Admin = d.admin.Addr()
	}
	if address := c.BundleEndpoint.Address; address != "" {
		if d.bundle, err = net.Listen("tcp", address); err != nil {
			return nil, fmt.Errorf("bundle endpoint: %w", err)
		}
		f.addrs.Bundle = d.bundle.Addr()
	}
	return d, nil
}

// serve runs everything until ctx ends or a part fails, and waits for all of it.
func (f *Federation) serve(ctx context.Context, p *plane, d *doors) error {
	handler, err := f.newAPI(p)
	if err != nil {
		d.close()
		return err
	}
	if p.address = f.opts.Config.Advertise; p.address == "" {
		p.address = d.mesh.Addr().String()
	}
	p.joinReplicas()
	group, run := errgroup.WithContext(ctx)
	p.events.note(eventStarted, string(f.opts.Cluster), fmt.Sprintf("epoch %d", p.loop.epoch))
	// What is on disk is loaded before anybody is served: the runners publish it
	// before they read, the importers as they are built.
	for _, s := range p.sources {
		group.Go(func() error { return s.runner.Run(run) })
	}
	f.mu.Lock()
	err = p.startPeers(run)
	f.plane = p
	f.mu.Unlock()
	if err != nil {
		d.close()
		group.Go(func() error { return err })
		return group.Wait()
	}
	if p.shared != nil {
		group.Go(func() error { return p.shared.Run(run) })
		group.Go(func() error { return p.replicas.Run(run) })
	}
	p.recordConfig(run)
	group.Go(func() error { return p.book.Run(run) })
	group.Go(func() error { return p.history.Run(run) })
	group.Go(func() error { return p.noteChanges(run) })
	group.Go(func() error { return p.runLoop(run) })
	group.Go(func() error {
		// Streams of peers end by themselves when the exporter closes; the listener
		// would else wait for them.
		<-run.Done()
		p.exporter.Close()
		return nil
	})
	group.Go(func() error { return p.mesh.Serve(run, d.mesh) })
	if d.socket != nil {
		group.Go(func() error { return handler.Serve(run, d.socket, api.Socket) })
	}
	if d.loopback != nil {
		group.Go(func() error { return handler.Serve(run, d.loopback, api.Loopback) })
	}
	if d.mtls != nil {
		group.Go(func() error { return handler.Serve(run, d.mtls, api.MTLS) })
	}
	if d.admin != nil {
		group.Go(func() error { return handler.Serve(run, d.admin, api.Health) })
	}
	if d.bundle != nil {
		group.Go(func() error { return p.publisher.Serve(run, d.bundle) })
	}
	close(f.ready)
	err = group.Wait()
	p.peers.wg.Wait()
	f.mu.Lock()
	f.plane = nil
	f.mu.Unlock()
	f.log.Info("federation stopped", "cluster", f.opts.Cluster)
	return err
}

// errRestart is what Reload answers to a change that needs a new process.
var errRestart = errors.New("listen, advertise, api, bundle_endpoint, store and data_dir change at a restart only")

// Reload puts the peers and the policies of a new configuration in place of the
// ones that run: peers that are gone are cut at once. On an error nothing has
// changed.
func (f *Federation) Reload(ctx context.Context, c Config) error {
	c = c.WithDefaults()
	opts := f.opts
	opts.Config = c
	if err := opts.validate(); err != nil {
		return fmt.Errorf("federation: reload: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	have := f.opts.Config
	if c.Listen != have.Listen || c.Advertise != have.Advertise || !reflect.DeepEqual(c.API, have.API) || c.BundleEndpoint != have.BundleEndpoint || c.DataDir != have.DataDir || !reflect.DeepEqual(c.Store, have.Store) {
		return fmt.Errorf("federation: reload: %w", errRestart)
	}
	if f.plane == nil {
		return errors.New("federation: reload: does not run")
	}
	if err := f.plane.takeConfig(ctx, c, have); err != nil {
		return fmt.Errorf("federation: reload: %w", err)
	}
	if c.PriceBook != have.PriceBook {
		f.plane.followPrices(c.PriceBook)
	}
	f.opts.Config = c
	f.plane.recordConfig(ctx)
	f.plane.events.note(eventReloaded, string(f.opts.Cluster), "")
	return nil
}
