package federation

import (
	"cmp"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// Capacities say what clusters can take of a service, or of all for the zero name, by
// the last reports of the own gateways.
func (p *plane) Capacities(service catalog.ServiceName) resource.Capacities {
	now := p.now()
	out := resource.Capacities{At: now.UTC(), Items: []resource.ClusterCapacity{}}
	fresh := p.gateways.fresh(now)
	if edition := p.tables.current(); edition != nil {
		out.Items = capacities(edition.Table(), fresh, service)
	}
	out.Gateways, out.Total = len(fresh), len(out.Items)
	out.Items = out.Items[:min(len(out.Items), resource.MaxCapacities)]
	return out
}

// capacities has a row for each port of a service in each cluster that has it, in
// order.
func capacities(t *route.Table, reports []heard, only catalog.ServiceName) []resource.ClusterCapacity {
	found := newVerdicts(reports)
	out := []resource.ClusterCapacity{}
	at := make(map[route.Target]int)
	add := func(c resource.ClusterCapacity) {
		at[route.Target{Service: c.Service, Port: c.Port, Cluster: c.Cluster}] = len(out)
		out = append(out, c)
	}
	for i := range t.Services {
		s := &t.Services[i]
		if !only.IsZero() && s.Name != only {
			continue
		}
		for _, port := range s.Ports {
			if own := ownCapacity(t, s, port.Name, found[s.Name]); own.Total > 0 {
				add(own)
			}
			for k := range s.Remote {
				r := &s.Remote[k]
				c := resource.ClusterCapacity{Service: s.Name, Port: port.Name, Cluster: r.Cluster}
				for _, row := range r.Rows {
					if row.Port == port.Name {
						c.Ready, c.Total = c.Ready+uint64(row.Ready), c.Total+uint64(row.Total)
					}
				}
				if c.Total > 0 {
					add(c)
				}
			}
		}
	}
	for _, h := range reports {
		for i := range h.report.Targets {
			x := &h.report.Targets[i]
			if k, ok := at[x.Target]; ok {
				told(&out[k], x, h.report)
			}
		}
	}
	for i := range out {
		c := &out[i]
		c.InFlight = max(c.InFlight, c.Ours)
		if c.Own && c.Known {
			c.Spare = c.Capacity - min(c.InFlight, c.Capacity)
		}
	}
	slices.SortFunc(out, func(a, b resource.ClusterCapacity) int {
		return cmp.Or(a.Service.Compare(b.Service), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Cluster, b.Cluster))
	})
	return out
}

// ownCapacity counts the own endpoints of a port. What they take is known where it is
// of all that are ready.
func ownCapacity(t *route.Table, s *route.Service, port string, of serviceVerdicts) resource.ClusterCapacity {
	c := resource.ClusterCapacity{Service: s.Name, Port: port, Cluster: t.Cluster.Name, Own: true, Known: true}
	var each uint32
	if s.Traffic != nil {
		each = s.Traffic.PerEndpoint()
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if e.Port != port {
			continue
		}
		c.Total++
		if !of.ready(e) {
			continue
		}
		c.Ready++
		n := route.CapacityOf(e, each)
		c.Capacity += n
		c.Known = c.Known && n > 0
	}
	if c.Known = c.Known && c.Ready > 0; !c.Known {
		c.Capacity = 0
	}
	return c
}

// told adds what one gateway says of a target. What a peer tells all gateways is told
// once; what each has under way there, or is granted, adds up.
func told(c *resource.ClusterCapacity, x *route.TargetReport, r *route.Report) {
	c.Ours += uint64(max(x.InFlight, 0))
	if c.Own {
		return // by endpoints
	}
	if x.Reported && r.At.Sub(x.ReportedAt) <= route.ReportFresh {
		c.Ready, c.Total = uint64(x.Ready), uint64(x.Total)
	}
	room := x.Room
	if room == nil {
		return
	}
	c.InFlight = max(c.InFlight, room.Carried)
	if room.Capacity == 0 || !room.GrantedUntil.After(r.At) {
		return
	}
	c.Known = true
	c.Capacity, c.Spare = max(c.Capacity, room.Capacity), max(c.Spare, room.Spare)
	c.Granted += room.Granted
}
