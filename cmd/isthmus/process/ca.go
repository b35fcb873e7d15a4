package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/config"
	"github.com/isthmus-mesh/isthmus/identity/bundleendpoint"
	"github.com/isthmus-mesh/isthmus/identity/ca"
	"github.com/isthmus-mesh/isthmus/identity/ca/agent"
)

// RunCA runs the embedded CA of a trust domain until ctx ends, and its admin
// listener where one is configured.
func RunCA(ctx context.Context, c *config.CA, log *slog.Logger, build string) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	registry.MustRegister(buildGauge(build))
	authority, err := ca.New(c.Config(), ca.Options{Log: log, Registerer: registry})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	if c.BundleEndpoint != (config.CABundleEndpoint{}) {
		publisher, err := bundleendpoint.NewServer(bundleendpoint.ServerOptions{
			Config: c.BundleEndpoint.Config(), Identity: authority.Identity(), Document: authority.Bundle, Log: log, Registerer: registry,
		})
		if err != nil {
			return err
		}
		var lc net.ListenConfig
		ln, err := lc.Listen(ctx, "tcp", c.BundleEndpoint.Address)
		if err != nil {
			return fmt.Errorf("bundle endpoint: %w", err)
		}
		group.Go(func() error { return publisher.Serve(ctx, ln) })
	}
	group.Go(func() error { return authority.Run(ctx) })
	return wait(ctx, group, authority, c.Admin, registry)
}

// RunCAAgent serves the Workload API of a host that joins an embedded CA, until
// ctx ends, and the admin listener where one is configured.
func RunCAAgent(ctx context.Context, c *config.CAAgent, log *slog.Logger, build string) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	registry.MustRegister(buildGauge(build))
	host, err := agent.New(c.Config(), agent.Options{Log: log, Registerer: registry})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return host.Run(ctx) })
	return wait(ctx, group, host, c.Admin, registry)
}

// wait serves the admin listener, if there is one, and waits for the group.
func wait(ctx context.Context, group *errgroup.Group, served interface{ WaitReady(context.Context) error }, admin string, registry *prometheus.Registry) error {
	if admin == "" {
		return group.Wait()
	}
	var ready atomic.Bool
	group.Go(func() error {
		var lc net.ListenConfig
		ln, err := lc.Listen(ctx, "tcp", admin)
		if err != nil {
			return fmt.Errorf("admin: %w", err)
		}
		return serveAdmin(ctx, ln, registry, &ready)
	})
	group.Go(func() error {
		if served.WaitReady(ctx) == nil {
			ready.Store(true)
		}
		return nil
	})
	return group.Wait()
}

// serveAdmin serves /metrics, /healthz and /readyz until ctx ends.
func serveAdmin(ctx context.Context, ln net.Listener, registry *prometheus.Registry, ready *atomic.Bool) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !ready.Load() {
			http.Error(w, "workload_api: not served yet", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
