package process

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/config"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/providers/metadata"
)

// locate asks the metadata server where this machine is, if the configuration says
// so. Where the server does not answer, what it said at an earlier start holds: a
// machine does not move, and its start is not to wait for a service that is dead.
func locate(ctx context.Context, c *config.Config, log *slog.Logger) (catalog.Locality, error) {
	if c.Cluster.Auto != config.AutoLocality {
		return catalog.Locality{}, nil
	}
	path := filepath.Join(c.DataDir, "locality.json")
	found, err := metadata.Locate(ctx, metadata.Options{Endpoint: c.Cluster.Metadata})
	if err != nil {
		kept, kerr := metadata.Recall(path)
		if kerr != nil {
			return catalog.Locality{}, fmt.Errorf("cluster.locality is auto, and the metadata server does not tell where this machine is; "+
				"write cloud, region and zone in its place, or make the server reachable: %w", err)
		}
		log.Warn("the metadata server does not answer; this machine is taken to be where it was", "address", kept.Locality.String(), "err", err)
		return kept.Locality, nil
	}
	if err := metadata.Keep(path, found); err != nil {
		log.Warn("cannot keep where this machine is; a start without the metadata server will fail", "path", path, "err", err)
	}
	log.Info("the metadata server tells where this machine is", "address", found.Locality.String())
	return found.Locality, nil
}

// located is the configuration with what was found.
func located(c *config.Config, found catalog.Locality, log *slog.Logger) (*config.Config, error) {
	if c.Cluster.Auto != config.AutoLocality {
		return c, nil
	}
	out := *c
	out.Cluster.Locate(found)
	where := out.Cluster.Locality()
	if err := where.Validate(); err != nil {
		return nil, fmt.Errorf("cluster: what is written does not go together with %s, where the metadata server says that this machine is: %w", found, err)
	}
	if where != found {
		log.Warn("the configuration says another place than the metadata server, and holds", "address", where.String())
	}
	return &out, nil
}
