package aws

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/providers/aws/unit"
)

// composer makes snapshots of what the units hold. What did not change is shared
// with the snapshot before.
type composer struct {
	source string
	last   *catalog.Snapshot
	parts  map[catalog.ServiceName][]*catalog.Service // of last
}

// reuse puts the services of the content before in place of equal ones, so that a
// pointer tells whether something changed. It reports whether anything did.
func reuse(before, now *unit.Content) bool {
	if before == nil {
		return true
	}
	if before == now {
		return false
	}
	changed := len(before.Services) != len(now.Services)
	for name, svc := range now.Services {
		if old := before.Services[name]; old != nil && old.Equal(svc) {
			now.Services[name] = old
			continue
		}
		changed = true
	}
	return changed
}

// compose returns the union of the units, which are in the order of the
// configuration, and how many services had to be left out since they break a rule
// of the catalog only together.
func (c *composer) compose(units []*unit.Content) (*catalog.Snapshot, int, error) {
	parts := map[catalog.ServiceName][]*catalog.Service{}
	for _, u := range units {
		for name, svc := range u.Services {
			parts[name] = append(parts[name], svc)
		}
	}
	var upserts []*catalog.Service
	var removes []catalog.ServiceName
	dropped := 0
	for name, of := range parts {
		if slices.Equal(of, c.parts[name]) {
			continue
		}
		svc := union(of)
		if len(of) > 1 && svc.Validate() != nil {
			dropped++
			svc = of[0]
		}
		upserts = append(upserts, svc)
	}
	for name := range c.parts {
		if _, still := parts[name]; !still {
			removes = append(removes, name)
		}
	}
	var err error
	var next *catalog.Snapshot
	if c.last == nil {
		next, err = catalog.NewSnapshot(c.source, upserts)
	} else {
		next, err = c.last.With(upserts, removes)
	}
	if err != nil {
		return nil, dropped, err
	}
	c.last, c.parts = next, parts
	return next, dropped, nil
}

// union is one service of what several units say of it. What a port speaks, the
// first of them says.
func union(of []*catalog.Service) *catalog.Service {
	if len(of) == 1 {
		return of[0]
	}
	out := &catalog.Service{Name: of[0].Name}
	for _, s := range of {
		for _, p := range s.Ports {
			if !slices.ContainsFunc(out.Ports, func(o catalog.Port) bool { return o.Name == p.Name }) {
				out.Ports = append(out.Ports, p)
			}
		}
		out.Endpoints = append(out.Endpoints, s.Endpoints...)
	}
	return out
}
