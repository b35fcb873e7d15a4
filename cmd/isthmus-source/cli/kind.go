package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/exec"
)

// options is what a kind of source is built with, beside its file.
type options struct {
	// name of the source in snapshots, logs and metrics.
	name       string
	log        *slog.Logger
	registerer prometheus.Registerer
}

// kind is one kind of source.
type kind struct {
	// name of the subcommand, and the source's where the flags give none.
	name, short, long string
	// open reads and checks the file at path and builds the source. It makes no
	// call to the cloud.
	open func(path string, o options) (discovery.Source, error)
}

// kinds are the sources of this command, in the order of its help.
func kinds() []kind {
	return []kind{awsKind, gcpKind, kubernetesKind}
}

func (k kind) command() *cobra.Command {
	var path, admin string
	var check bool
	o := options{name: k.name}
	c := &cobra.Command{
		Use:   k.name,
		Short: k.short,
		Long:  k.long,
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			registry := prometheus.NewRegistry()
			registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
			// The parent puts what is printed here into its own log.
			o.log, o.registerer = slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil)), registry
			source, err := k.open(path, o)
			if err != nil {
				return err
			}
			if check {
				_, err := fmt.Fprintf(c.OutOrStdout(), "%s is valid\n", path)
				return err
			}
			return serve(c, source, admin, registry)
		},
	}
	c.Flags().StringVarP(&path, "config", "c", "/etc/isthmus/"+k.name+".yaml", "configuration file")
	c.Flags().StringVar(&o.name, "name", k.name, "name of the source")
	c.Flags().StringVar(&admin, "admin", "", "loopback ip:port of /metrics; empty serves none")
	c.Flags().BoolVar(&check, "check", false, "check the configuration file, make no call, and end")
	return c
}

// beat is how often the parent is told that the source is well: soon enough to be seen
// by who looks at its state after a trouble.
const beat = 5 * time.Second

// serve prints what the source publishes until the parent is gone.
func serve(c *cobra.Command, source discovery.Source, admin string, registry *prometheus.Registry) error {
	group, ctx := errgroup.WithContext(c.Context())
	if admin != "" {
		ln, err := listenAdmin(ctx, admin)
		if err != nil {
			return err
		}
		group.Go(func() error { return serveAdmin(ctx, ln, registry) })
	}
	group.Go(func() error {
		err := exec.Serve(ctx, exec.ServeOptions{Source: source, Out: c.OutOrStdout(), In: c.InOrStdin(), Beat: beat})
		if err == nil {
			err = context.Canceled // a signal ends the admin listener, too
		}
		return err
	})
	if err := group.Wait(); !errors.Is(err, exec.ErrParentGone) && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func listenAdmin(ctx context.Context, address string) (net.Listener, error) {
	if a, err := netip.ParseAddrPort(address); err != nil || !a.Addr().Unmap().IsLoopback() {
		return nil, fmt.Errorf("--admin: %q must be ip:port of a loopback address", address)
	}
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", address)
}

func serveAdmin(ctx context.Context, ln net.Listener, registry *prometheus.Registry) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
