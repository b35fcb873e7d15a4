package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/config"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/gateway/estate"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Run plays the roles of the configuration until ctx ends, then stops them in
// order and returns nil. It returns the first failure otherwise. What is asked of it
// while it runs is done, or refused whole with a line in the log.
func Run(ctx context.Context, c *config.Config, asked Asked, log *slog.Logger, build string) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	registry.MustRegister(buildGauge(build))
	found, err := locate(ctx, c, log)
	if err != nil {
		return err
	}
	if c, err = located(c, found, log); err != nil {
		return err
	}
	var roles []role
	var plane *federation.Federation
	var up *upgrader
	if c.Federation != nil {
		r, f, err := federationRole(c, log, registry, build)
		if err != nil {
			return err
		}
		plane = f
		roles = append(roles, r)
	}
	if c.Gateway != nil {
		e, err := estateOf(c, asked.Inherited)
		if err != nil {
			return err
		}
		r, g, err := gatewayRole(c, e, log, registry, build)
		if err != nil {
			return err
		}
		up = newUpgrader(c, g, e, log)
		roles = append(roles, r)
	} else if asked.Inherited != nil {
		return errNoGateway
	}
	log.Info("starting", "cluster", c.Cluster.Name, "version", build, "pid", os.Getpid())
	following, stop := context.WithCancel(ctx)
	var wait sync.WaitGroup
	wait.Go(func() { follow(following, c, found, plane, asked.Changes, log) })
	wait.Go(func() { up.run(following, asked.Upgrades) })
	wait.Go(func() { announce(following, up, log) })
	err = runRoles(ctx, roles)
	stop()
	wait.Wait()
	if err != nil {
		log.Error("stopped", "err", err)
		return err
	}
	log.Info("stopped")
	return nil
}

// role is one part of the process with the identity that it needs.
type role struct {
	name     string
	identity *identity.Source
	run      func(context.Context) error
}

// runRoles runs all roles until ctx ends or one fails. They stop in the reverse
// order: a gateway that drains still reports to its federation, and both need
// their identity until the last handshake.
func runRoles(ctx context.Context, roles []role) error {
	failed, fail := context.WithCancel(context.WithoutCancel(ctx))
	defer fail()
	var all errgroup.Group
	idCtx, stopIdentities := context.WithCancel(context.WithoutCancel(ctx))
	defer stopIdentities()
	for _, r := range roles {
		all.Go(func() error {
			err := r.identity.Run(idCtx)
			if idCtx.Err() == nil {
				fail()
				return fmt.Errorf("%s identity: %w", r.name, errors.Join(err, errors.New("ended early")))
			}
			return nil
		})
	}
	stops := make([]context.CancelFunc, len(roles))
	done := make([]chan struct{}, len(roles))
	for i, r := range roles {
		roleCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
		stops[i], done[i] = stop, make(chan struct{})
		all.Go(func() error {
			defer close(done[i])
			defer fail()
			if err := r.run(roleCtx); err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
			return nil
		})
	}
	select {
	case <-ctx.Done():
	case <-failed.Done():
	}
	for i, stop := range slices.Backward(stops) {
		stop()
		<-done[i]
	}
	stopIdentities()
	return all.Wait()
}

func federationRole(c *config.Config, log *slog.Logger, registry *prometheus.Registry, build string) (role, *federation.Federation, error) {
	id, err := c.FederationID()
	if err != nil {
		return role{}, nil, err
	}
	source, err := newIdentity(c, "federation", id, log, registry)
	if err != nil {
		return role{}, nil, err
	}
	sources, err := newSources(c, log, registry)
	if err != nil {
		return role{}, nil, err
	}
	locality := c.Cluster.Locality().WithZone("")
	f, err := federation.New(federation.Options{
		Config: c.Federation.Config, Cluster: c.Cluster.ClusterName(), Locality: locality, Labels: c.Cluster.Labels,
		Identity: source, Sources: sources, Log: log, Registry: registry, Build: build,
	})
	if err != nil {
		return role{}, nil, err
	}
	run, err := withSyncOut(c, f, log, registry)
	if err != nil {
		return role{}, nil, err
	}
	return role{name: "federation", identity: source, run: run}, f, nil
}

func gatewayRole(c *config.Config, e *estate.Estate, log *slog.Logger, registry *prometheus.Registry, build string) (role, *gateway.Gateway, error) {
	id, err := c.GatewayID()
	if err != nil {
		return role{}, nil, err
	}
	source, err := newIdentity(c, "gateway", id, log, registry)
	if err != nil {
		return role{}, nil, err
	}
	fedID, err := c.FederationID()
	if err != nil {
		return role{}, nil, err
	}
	link, err := client.NewGateway(client.GatewayOptions{
		Addresses: c.Gateway.Federation, Identity: source, FederationID: fedID, Log: log,
	})
	if err != nil {
		return role{}, nil, fmt.Errorf("gateway: federation: %w", err)
	}
	g, err := gateway.New(gateway.Options{
		Config: c.Gateway.Config, Cluster: c.Cluster.ClusterName(), Locality: c.Cluster.Locality(),
		Identity: source, NoIdentityCache: c.Identity.NoCache, Tables: link, Reports: link,
		Log: log, Registry: registry, Build: build, Estate: e,
	})
	if err != nil {
		return role{}, nil, err
	}
	return role{name: "gateway", identity: source, run: g.Run}, g, nil
}

// newIdentity is the SVID of one role. Both roles of one process have their own,
// told apart in the metrics by a label.
func newIdentity(c *config.Config, roleName string, id spiffeid.ID, log *slog.Logger, registry prometheus.Registerer) (*identity.Source, error) {
	cache := c.CacheFile(roleName)
	if cache != "" {
		if err := os.MkdirAll(filepath.Dir(cache), 0o700); err != nil {
			return nil, fmt.Errorf("identity: %w", err)
		}
	}
	source, err := identity.New(identity.Options{
		WorkloadAPI: c.Identity.WorkloadAPI, Files: c.Identity.Files, ID: id, CacheFile: cache, Log: log,
		Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"role": roleName}, registry),
	})
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	return source, nil
}

func buildGauge(build string) prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "isthmus_build_info", Help: "Always 1; the label says which build runs.",
		ConstLabels: prometheus.Labels{"version": build},
	})
	g.Set(1)
	return g
}
