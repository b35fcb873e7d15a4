package process

import (
	"context"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/config"
	"github.com/isthmus-mesh/isthmus/discovery/consul/syncout"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// withSyncOut runs a federation with what writes its imports back, where that is
// configured.
func withSyncOut(c *config.Config, f *federation.Federation, log *slog.Logger, registry prometheus.Registerer) (func(context.Context) error, error) {
	s := c.Federation.SyncOut
	if s == nil {
		return f.Run, nil
	}
	w, err := syncout.New(syncout.Options{
		Config: *s.Consul, Cluster: c.Cluster.ClusterName(), Name: writerName(c),
		Offers: func() (syncout.Offer, bool) { return offer(f) }, Log: log, Registerer: registry,
	})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		group, ctx := errgroup.WithContext(ctx)
		group.Go(func() error { return f.Run(ctx) })
		group.Go(func() error { return w.Run(ctx) })
		return group.Wait()
	}, nil
}

// offer is what the federation imports, in the words of sync-out.
func offer(f *federation.Federation) (syncout.Offer, bool) {
	ways, gateways, ok := f.WaysIn()
	if !ok {
		return syncout.Offer{}, false
	}
	o := syncout.Offer{Gateways: gateways, Ways: make([]syncout.Way, len(ways))}
	for i, w := range ways {
		o.Ways[i] = syncout.Way{
			Service: w.Service, Port: w.Port, Protocol: w.Protocol, Gateway: w.Gateway, HTTP: w.Kind == route.WayHTTP, Mesh: w.Mesh,
			Address: w.Address, Reachable: w.Reachable, Reason: w.Reason,
		}
	}
	return o, true
}

// writerName tells replicas apart in what they write.
func writerName(c *config.Config) string {
	if c.Federation.Store.Replica != "" {
		return c.Federation.Store.Replica
	}
	if host, err := os.Hostname(); err == nil {
		return host
	}
	return c.Cluster.Name
}
