package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/config"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation"
)

// errRestart says that a change was read and waits for the next start.
var errRestart = errors.New("changes at a restart only; what runs is as before")

// follow takes new configurations until ctx ends. One that cannot be taken changes
// nothing, and what runs goes on.
func follow(ctx context.Context, c *config.Config, found catalog.Locality, f *federation.Federation, changes <-chan *config.Config, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case next := <-changes:
			next, err := located(next, found, log)
			if err == nil {
				err = take(ctx, c, next, f)
			}
			if err != nil {
				log.Error("configuration not taken", "err", err)
				continue
			}
			log.Info("configuration taken")
			c = next
		}
	}
}

// take puts what may change in place: peers and policies of the federation.
func take(ctx context.Context, have, next *config.Config, f *federation.Federation) error {
	if fixed := fixedSections(have, next); len(fixed) > 0 {
		return fmt.Errorf("%s: %w", strings.Join(fixed, ", "), errRestart)
	}
	if f == nil {
		return nil
	}
	return f.Reload(ctx, next.Federation.Config)
}

// fixedSections names those that differ and that a process keeps for its life.
func fixedSections(have, next *config.Config) []string {
	var out []string
	for _, s := range []struct {
		name       string
		have, next any
	}{
		{"cluster", have.Cluster, next.Cluster},
		{"data_dir", have.DataDir, next.DataDir},
		{"identity", have.Identity, next.Identity},
		{"log", have.Log, next.Log},
		{"gateway", have.Gateway, next.Gateway},
	} {
		if !reflect.DeepEqual(s.have, s.next) {
			out = append(out, s.name)
		}
	}
	switch {
	case (have.Federation == nil) != (next.Federation == nil):
		out = append(out, "federation")
	case have.Federation != nil && !reflect.DeepEqual(have.Federation.Sources, next.Federation.Sources):
		out = append(out, "federation.sources")
	case have.Federation != nil && !reflect.DeepEqual(have.Federation.SyncOut, next.Federation.SyncOut):
		out = append(out, "federation.sync_out")
	}
	return out
}
