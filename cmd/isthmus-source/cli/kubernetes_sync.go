package cli

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus-source/federated"
	"github.com/isthmus-mesh/isthmus/discovery/kubernetes/mcs"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
	"github.com/isthmus-mesh/isthmus/federation/client"
)

// syncFlags are those of kubernetes-sync.
type syncFlags struct {
	config, api, tokenFile, admin string
	check                         bool
}

func newKubernetesSync() *cobra.Command {
	var f syncFlags
	c := &cobra.Command{
		Use:   "kubernetes-sync",
		Short: "Join a Kubernetes cluster by the Multi-Cluster Services API: ServiceExport, ServiceImport",
		Long: `Make exports of the federation of ServiceExports, and ServiceImports (with a Service and
EndpointSlices that point at the gateways) of its imports. It is no source: it runs by
itself, beside the federation or in the cluster, as often as is wanted; one of them
writes, by a Lease.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	c.Flags().StringVarP(&f.config, "config", "c", "/etc/isthmus/kubernetes-sync.yaml", "configuration file")
	c.Flags().StringVar(&f.api, "api", "unix:///run/isthmus/api.sock", "the federation's REST API: unix://PATH, or http://ADDRESS:PORT on loopback")
	c.Flags().StringVar(&f.tokenFile, "token-file", "", "token of the API, for http")
	c.Flags().StringVar(&f.admin, "admin", "", "loopback ip:port of /metrics; empty serves none")
	c.Flags().BoolVar(&f.check, "check", false, "check the configuration file, make no call, and end")
	return c
}

func (f *syncFlags) run(c *cobra.Command) error {
	data, err := os.ReadFile(f.config)
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	var conf mcs.Config
	if err := strictyaml.DecodeValid(f.config, data, &conf, func() error { return conf.Validate() }); err != nil {
		return err
	}
	api, err := f.client()
	if err != nil {
		return err
	}
	defer api.Close()
	if f.check {
		_, err := fmt.Fprintf(c.OutOrStdout(), "%s is valid\n", f.config)
		return err
	}
	return f.serve(c, conf.WithDefaults(), api)
}

func (f *syncFlags) client() (*client.Client, error) {
	if path, ok := strings.CutPrefix(f.api, "unix://"); ok {
		return client.New(client.Options{Socket: path})
	}
	o := client.Options{URL: f.api}
	if f.tokenFile != "" {
		token, err := os.ReadFile(f.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("read --token-file: %w", err)
		}
		o.Token = strings.TrimSpace(string(token))
	}
	return client.New(o)
}

func (f *syncFlags) serve(c *cobra.Command, conf mcs.Config, api *client.Client) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	var sync *mcs.Sync
	fed := federated.New(api, conf.Owner, func() { sync.Kick() })
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("who holds the lease: %w", err)
	}
	sync, err = mcs.New(mcs.Options{
		Config: conf, Federation: fed, Identity: host + "-" + rand.Text()[:8],
		Log: slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil)), Registerer: registry,
	})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(c.Context())
	if f.admin != "" {
		ln, err := listenAdmin(ctx, f.admin)
		if err != nil {
			return err
		}
		group.Go(func() error { return serveAdmin(ctx, ln, registry) })
	}
	group.Go(func() error {
		fed.Run(ctx)
		return nil
	})
	group.Go(func() error { return sync.Run(ctx) })
	return group.Wait()
}
