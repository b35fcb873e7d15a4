package consul

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/consul/api"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// fetchers bounds the reads of services at once: an agent allows 200
// connections a client by default, and there are other users.
const fetchers = 16

// read fetches the named services with a bounded pool; all or nothing.
func (r *run) read(ctx context.Context, names []string) error {
	got := make([]*catalog.Service, len(names))
	nodes := make([][]string, len(names))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(fetchers)
	for i, name := range names {
		if skip(name) {
			continue
		}
		group.Go(func() error {
			var err error
			got[i], nodes[i], err = r.source.fetch(ctx, name)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i, name := range names {
		switch old := r.services[name]; {
		case got[i] == nil:
			delete(r.services, name)
		case old == nil || !old.Equal(got[i]): // else keep the shared one
			r.services[name] = got[i]
		}
	}
	r.noteNodes(names, nodes)
	return nil
}

// noteNodes remembers which services run on which node, for the nodes' checks.
func (r *run) noteNodes(names []string, nodes [][]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.nodes == nil {
		r.nodes = map[string][]string{}
	}
	read := map[string]bool{}
	for _, n := range names {
		read[n] = true
	}
	for node, services := range r.nodes {
		r.nodes[node] = slices.DeleteFunc(services, func(s string) bool { return read[s] })
		if len(r.nodes[node]) == 0 {
			delete(r.nodes, node)
		}
	}
	for i, name := range names {
		for _, node := range nodes[i] {
			if !slices.Contains(r.nodes[node], name) {
				r.nodes[node] = append(r.nodes[node], name)
			}
		}
	}
}

// fetch reads one service's instances.
func (s *Source) fetch(ctx context.Context, name string) (*catalog.Service, []string, error) {
	var entries []*api.ServiceEntry
	_, err := s.ask(ctx, func(q *api.QueryOptions) (meta *api.QueryMeta, err error) {
		q.WaitTime = 0
		entries, meta, err = s.client.Health().Service(name, "", false, q)
		return meta, err
	}, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("consul service %s: %w", name, err)
	}
	s.metrics.fetches.Inc()
	service, bad := s.opts.Config.convert(name, entries, s.opts.Locality)
	for _, b := range bad {
		s.metrics.rejected.WithLabelValues(b.reason).Inc()
		s.log.Debug("left out of the catalog", "source", s.opts.Name, "service", b.service, "endpoint", b.endpoint, "reason", b.reason)
	}
	var nodes []string
	for _, e := range entries {
		if e.Node != nil && !slices.Contains(nodes, e.Node.Node) {
			nodes = append(nodes, e.Node.Node)
		}
	}
	return service, nodes, nil
}

// publish hands out what is known, if it differs from what was published.
func (r *run) publish(publish discovery.Publish) error {
	next, err := r.snapshot()
	if err != nil {
		return err
	}
	if r.have && !r.repeat && next.Equal(r.last) {
		return nil
	}
	r.last, r.have, r.repeat = next, true, false
	publish(next)
	return nil
}

// snapshot leaves out a service that does not pass the catalog's rules: one bad
// registration must not stop the others.
func (r *run) snapshot() (*catalog.Snapshot, error) {
	services := slices.Collect(maps.Values(r.services))
	next, err := catalog.NewSnapshot(r.source.opts.Name, services)
	if err == nil {
		return next, nil
	}
	var good []*catalog.Service
	for _, name := range slices.Sorted(maps.Keys(r.services)) {
		s := r.services[name]
		if _, serr := catalog.NewSnapshot(r.source.opts.Name, []*catalog.Service{s}); serr != nil {
			r.source.metrics.rejected.WithLabelValues(badName).Inc()
			r.source.log.Warn("service left out of the catalog", "source", r.source.opts.Name, "service", name, "err", serr)
			continue
		}
		good = append(good, s)
	}
	if len(good) == len(services) {
		return nil, fmt.Errorf("consul catalog: %w", err)
	}
	return catalog.NewSnapshot(r.source.opts.Name, good)
}
