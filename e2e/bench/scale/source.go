package main

import (
	"context"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

const sourceName = "registry"

// source is a discovery.Source of the own endpoints.
type source struct {
	size    size
	changes chan uint32 // the weight that the next endpoint gets
}

// Run implements discovery.Source.
func (s *source) Run(ctx context.Context, publish discovery.Publish) error {
	snapshot, err := s.first()
	if err != nil {
		return err
	}
	publish(snapshot)
	for n := 0; ; n++ {
		select {
		case weight := <-s.changes:
			const stride = 7919 // a prime, so that changes wander over all services
			changed := snapshot.Get(serviceName(n * stride % s.size.Services)).Clone()
			e := &changed.Endpoints[n%len(changed.Endpoints)]
			e.Weight = weight
			// The health changes too, so that peers have something to be told.
			if e.Health = catalog.Critical; n/s.size.Services%2 == 1 {
				e.Health = catalog.Passing
			}
			if snapshot, err = snapshot.With([]*catalog.Service{changed}, nil); err != nil {
				return err
			}
			publish(snapshot)
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *source) first() (*catalog.Snapshot, error) {
	services := make([]*catalog.Service, s.size.Services)
	for i := range services {
		services[i] = ownService(s.size, i)
	}
	return catalog.NewSnapshot(sourceName, services)
}
