package main

import (
	"context"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

const sourceName = "registry"

// source is a discovery.Source of the own endpoints.
type source struct {
	size    size
	changes chan uint32 // the weight that the next endpoint gets
	own     own         // of making the changes
}

// settle is what the sources of Consul and Kubernetes wait for changes that come
// together, before they read and publish them.
const settle = 20 * time.Millisecond

// Run implements discovery.Source.
func (s *source) Run(ctx context.Context, publish discovery.Publish) error {
	snapshot, err := s.first()
	if err != nil {
		return err
	}
	publish(snapshot)
	for n := 0; ; {
		var weights []uint32
		select {
		case weight := <-s.changes:
			weights = append(weights, weight)
		case <-ctx.Done():
			return nil
		}
		if pause(ctx, settle) != nil {
			return nil
		}
		for len(s.changes) > 0 {
			weights = append(weights, <-s.changes)
		}
		s.own.do(func() {
			changed := make([]*catalog.Service, len(weights))
			for i, weight := range weights {
				changed[i] = s.change(snapshot, n, weight)
				n++
			}
			snapshot, err = snapshot.With(changed, nil)
		})
		if err != nil {
			return err
		}
		publish(snapshot)
	}
}

// change is the service of turn n with one endpoint changed.
func (s *source) change(snapshot *catalog.Snapshot, n int, weight uint32) *catalog.Service {
	const stride = 7919 // a prime, so that changes wander over all services
	changed := snapshot.Get(serviceName(n * stride % s.size.Services)).Clone()
	e := &changed.Endpoints[n%len(changed.Endpoints)]
	e.Weight = weight
	// The health changes too, so that peers have something to be told.
	if e.Health = catalog.Critical; n/s.size.Services%2 == 1 {
		e.Health = catalog.Passing
	}
	return changed
}

func (s *source) first() (*catalog.Snapshot, error) {
	services := make([]*catalog.Service, s.size.Services)
	for i := range services {
		services[i] = ownService(s.size, i)
	}
	return catalog.NewSnapshot(sourceName, services)
}
