package federation

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api"
	"github.com/isthmus-mesh/isthmus/federation/merge"
)

// source is one of the own cluster's sources and what it published last.
type source struct {
	NamedSource
	runner   *discovery.Runner
	snapshot atomic.Pointer[catalog.Snapshot]
	// Of the loop: what the journal was told.
	state discovery.State
	noted *catalog.Snapshot
}

// newSources builds a runner for each configured source.
func (p *plane) newSources() error {
	metrics, err := discovery.NewMetrics(p.registry)
	if err != nil {
		return fmt.Errorf("sources: %w", err)
	}
	for _, named := range p.opts.Sources {
		s := &source{NamedSource: named}
		kept, err := discovery.NewStore(p.path("sources"), named.Name)
		if err != nil {
			return err
		}
		s.runner, err = discovery.NewRunner(discovery.RunnerOptions{
			Name: named.Name, Kind: named.Kind, Source: named.Source, Ranges: named.Ranges, Guard: named.Guard,
			Store: kept, Metrics: metrics, Log: p.log, Now: p.opts.Now,
			Gather: func() { p.touch(sourceSpoke) },
			Publish: func(snapshot *catalog.Snapshot) {
				s.snapshot.Store(snapshot)
				p.touch(catalogChanged)
			},
		})
		if err != nil {
			return err
		}
		p.sources = append(p.sources, s)
	}
	return nil
}

// takeSources judges what sources have published since the round before: a source
// may publish far more often than there are rounds.
func (p *plane) takeSources() {
	for _, s := range p.sources {
		s.runner.Take()
	}
}

// silent are the sources that have published nothing yet, not even what is on
// disk.
func (p *plane) silent() (names []string) {
	for _, s := range p.sources {
		if s.snapshot.Load() == nil {
			names = append(names, s.Name)
		}
	}
	return names
}

// mergeSources are the sources as merge takes them: the configuration's order is
// the order of priority.
func (p *plane) mergeSources() []merge.Source {
	out := make([]merge.Source, len(p.sources))
	for i, s := range p.sources {
		out[i] = merge.Source{Name: s.Name, Snapshot: s.snapshot.Load(), Mapping: s.Mapping}
	}
	return out
}

// Release is the operator's word for the guard of a source.
func (p *plane) Release(_ context.Context, name string) (int, error) {
	for _, s := range p.sources {
		if s.Name != name {
			continue
		}
		held := s.runner.Status().QuarantinedCount
		s.runner.Release()
		p.events.note(eventSourceReleased, name, fmt.Sprintf("%d withdrawals took effect", held))
		return held, nil
	}
	return 0, fmt.Errorf("source %q: %w", name, api.ErrUnknownSource)
}

// failHeld tells the guards which of the endpoints that they hold the data path
// cannot reach: those are gone.
func (p *plane) failHeld(verdicts verdicts) {
	failed := make(map[string][]discovery.EndpointKey)
	for name, s := range p.loop.census.held {
		for i := range s.Local.Endpoints {
			e := &s.Local.Endpoints[i]
			if e.Quarantined && verdicts[name].down(e) {
				failed[e.Source] = append(failed[e.Source], discovery.EndpointKey{Service: name, ID: e.ID})
			}
		}
	}
	for _, s := range p.sources {
		// A source that is mapped calls its services by other names.
		if keys := failed[s.Name]; len(keys) > 0 && s.plain() {
			s.runner.DataPathFailed(keys...)
		}
	}
}

func (s *source) plain() bool { return len(s.Mapping.Rename) == 0 && len(s.Mapping.Namespaces) == 0 }
