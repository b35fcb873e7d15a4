package route

import (
	"cmp"
	"iter"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Readiness is how many of the own endpoints of one port are ready, as the data
// path sees it: what a gateway tells its peers on the links' control streams.
type Readiness struct {
	// Target names the own cluster.
	Target Target
	// Ready leaves out zones that are ejected.
	Ready, Total uint32
	// Capacity is what the ready endpoints take at once, Slots what this gateway may
	// use of it; 0 is not known.
	Capacity, Slots uint64
	// InFlight is how many calls it carries to them.
	InFlight int64
}

// Capacities yields the ports of the own cluster whose capacity is known, exported or
// not, in no order.
func (p *Plan) Capacities() iter.Seq[Readiness] {
	return func(yield func(Readiness) bool) {
		for _, s := range p.list {
			for i := range s.ports {
				if r := p.readiness(s, i); r.Capacity > 0 && !yield(r) {
					return
				}
			}
		}
	}
}

// HasOnePort reports whether a service of the table has no more than one port.
func (p *Plan) HasOnePort(name catalog.ServiceName) bool {
	s := p.of(name)
	return s != nil && len(s.ports) == 1
}

// Readiness yields the ports of every exported service, in order of service and
// port. Quarantined endpoints do not count: nobody should be drawn to them.
func (p *Plan) Readiness() iter.Seq[Readiness] {
	return func(yield func(Readiness) bool) {
		exported := make([]*servicePlan, 0, len(p.list))
		for _, s := range p.list {
			if len(s.service.ExportedTo) > 0 {
				exported = append(exported, s)
			}
		}
		slices.SortFunc(exported, func(a, b *servicePlan) int { return a.service.Name.Compare(b.service.Name) })
		for _, s := range exported {
			for i := range s.ports {
				if !yield(p.readiness(s, i)) {
					return
				}
			}
		}
	}
}

// readiness of port i of s. Quarantined endpoints do not count.
func (p *Plan) readiness(s *servicePlan, i int) Readiness {
	r := Readiness{Target: Target{
		Service: s.service.Name, Port: s.ports[i].port.Name, Cluster: p.table.Cluster.Name,
	}}
	open := false
	for k := range s.ports[i].far.candidates {
		c := &s.ports[i].far.candidates[k]
		if c.quarantined {
			continue
		}
		r.Total += uint32(len(c.endpoints.members))
		r.InFlight = c.counters.InFlight()
		if !c.usable() {
			continue
		}
		r.Ready += uint32(c.endpoints.ready)
		open = open || !c.room.known
		r.Capacity += c.room.capacity
		r.Slots += c.room.slots.Any
	}
	if open {
		r.Capacity, r.Slots = 0, 0
	}
	return r
}

// Compare orders targets by service, port and cluster.
func (t Target) Compare(o Target) int {
	return cmp.Or(t.Service.Compare(o.Service), cmp.Compare(t.Port, o.Port), cmp.Compare(t.Cluster, o.Cluster))
}

// Compare orders keys by service, port and ID.
func (k EndpointKey) Compare(o EndpointKey) int {
	return cmp.Or(k.Service.Compare(o.Service), cmp.Compare(k.Port, o.Port), cmp.Compare(k.ID, o.ID))
}
