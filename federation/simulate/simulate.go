package simulate

import (
	"fmt"
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

const (
	// budget bounds the calls that are made in all, leastCalls and mostCalls those of
	// one service at one gateway at one moment: 4,000 tell a share to within a percent.
	budget     = 3_000_000
	leastCalls = 200
	mostCalls  = 4_000
	// overload is how much more an endpoint must carry to be told of.
	overload = 2.0
	// MaxServices bounds the services that are worked out: those called most.
	MaxServices = 5_000
)

// The moments that are looked at.
const (
	AtOnce  = "at_once"
	Settled = "settled"
)

// Simulate works out what would become of a recording's demand. seed makes the draws.
func Simulate(rec *Recording, c Change, seed uint64) *resource.Simulation {
	out := &resource.Simulation{RecordedAt: rec.At, Services: []resource.SimulatedService{}, Clusters: []resource.SimulatedCluster{}}
	s := &simulation{out: out, change: &c, seed: seed, clusters: make(map[catalog.ClusterName]*resource.SimulatedCluster)}
	lines := 0
	s.asked = make(map[catalog.ServiceName]float64)
	for i := range rec.Gateways {
		for _, l := range demandOf(&rec.Gateways[i]) {
			lines++
			s.asked[l.service] += l.calls
		}
	}
	s.calls = min(max(budget/(3*max(lines, 1)), leastCalls), mostCalls)
	for i := range rec.Gateways {
		s.gateway(&rec.Gateways[i])
	}
	out.Clusters = make([]resource.SimulatedCluster, 0, len(s.clusters))
	for _, name := range slices.Sorted(maps.Keys(s.clusters)) {
		out.Clusters = append(out.Clusters, *s.clusters[name])
		if s.clusters[name].Down {
			out.Down = append(out.Down, name)
		}
	}
	if len(out.Services) == 0 {
		s.unknown("nothing was called of late: there is no demand to work with")
	}
	for _, x := range []string{
		"what callers of other clusters send: their federations know it",
		"capacities that are not advertised: load is told per ready endpoint",
		"what other clusters would ask of the same spare capacity",
	} {
		s.unknown(x)
	}
	return out
}

type simulation struct {
	out      *resource.Simulation
	change   *Change
	seed     uint64
	calls    int
	clusters map[catalog.ClusterName]*resource.SimulatedCluster
	// asked is how often each service is called through all gateways.
	asked map[catalog.ServiceName]float64
}

func (s *simulation) unknown(text string) {
	if !slices.Contains(s.out.Unknown, text) {
		s.out.Unknown = append(s.out.Unknown, text)
	}
}

func (s *simulation) gateway(g *Gateway) {
	down, unknown := clusters(g.Table, s.change.Down)
	for _, p := range unknown {
		s.unknown(fmt.Sprintf("%s: no cluster, region or cloud that is known here", p))
	}
	for _, k := range s.change.Capacity {
		if _, unknown := clusters(g.Table, []Place{k.Place}); len(unknown) > 0 {
			s.unknown(fmt.Sprintf("%s: no cluster, region or cloud that is known here", k.Place))
		}
	}
	s.out.Cluster = g.Table.Cluster.Name
	each(g.Table, func(name catalog.ClusterName, l catalog.Locality) {
		if s.clusters[name] == nil {
			s.clusters[name] = &resource.SimulatedCluster{Cluster: name, Locality: l, Down: down[name]}
		}
	})
	own := g.Table.Cluster.Name
	nothing := Change{}
	beforeTable, beforeReport := nothing.apply(g.Table, g.Report, nil, true)
	atOnce, atOnceReport := s.change.apply(g.Table, g.Report, down, false)
	settled, settledReport := s.change.apply(g.Table, g.Report, down, true)
	s.grant(g, settledReport)
	for _, l := range demandOf(g) {
		row := resource.SimulatedService{Service: l.service, Port: l.port, Gateway: g.Report.Gateway.Name, PerSecond: l.calls}
		before := s.rehearse(&l, beforeTable, beforeReport)
		row.Before = before.parts
		if down[own] {
			// Its callers are gone with it, and so is this gateway.
			row.AtOnce, row.Settled = []resource.SimulatedPart{}, []resource.SimulatedPart{}
			s.unknown(fmt.Sprintf("%s: the own cluster is down, and its callers with it; ask the federations of others", own))
		} else {
			now, then := s.rehearse(&l, atOnce, atOnceReport), s.rehearse(&l, settled, settledReport)
			row.AtOnce, row.Settled = now.parts, then.parts
			row.Shed = l.shed(before, now, then)
		}
		s.charge(&l, &row)
		s.breaks(&row)
		s.out.Services = append(s.out.Services, row)
	}
}

// readyOf are the ready endpoints of a service by cluster.
func readyOf(t *route.Table, r *route.Report, name catalog.ServiceName, port string) map[catalog.ClusterName]uint32 {
	out := make(map[catalog.ClusterName]uint32)
	for i := range t.Services {
		s := &t.Services[i]
		if s.Name != name {
			continue
		}
		p, ok := catalog.FindPort(s.Ports, port)
		if !ok {
			return out
		}
		sick := make(map[string]bool)
		for k := range r.Endpoints {
			if e := &r.Endpoints[k]; e.Known && !e.Healthy && e.Endpoint.Port == p.Name {
				sick[e.Endpoint.ID] = true
			}
		}
		for k := range s.Endpoints {
			if e := &s.Endpoints[k]; e.Port == p.Name && e.Health.Usable() && !sick[e.ID] {
				out[t.Cluster.Name]++
			}
		}
		for k := range s.Remote {
			for _, row := range s.Remote[k].Rows {
				if row.Port == p.Name {
					out[s.Remote[k].Cluster] += row.Ready
				}
			}
		}
		for k := range r.Targets {
			if x := &r.Targets[k]; x.Reported && x.Target.Port == p.Name && r.At.Sub(x.ReportedAt) <= route.ReportFresh {
				out[x.Target.Cluster] = x.Ready
			}
		}
	}
	return out
}

// charge adds a line's calls, bytes and costs to the clusters.
func (s *simulation) charge(l *line, row *resource.SimulatedService) {
	for _, of := range []struct {
		parts []resource.SimulatedPart
		add   func(c *resource.SimulatedCluster, n, cost float64)
	}{
		{row.Before, func(c *resource.SimulatedCluster, n, cost float64) {
			c.Before, c.BytesBefore, c.SpendBefore = c.Before+n, c.BytesBefore+n*l.bytes(), c.SpendBefore+cost
			row.SpendBefore, s.out.SpendBefore = row.SpendBefore+cost, s.out.SpendBefore+cost
		}},
		{row.AtOnce, func(c *resource.SimulatedCluster, n, _ float64) { c.AtOnce += n }},
		{row.Settled, func(c *resource.SimulatedCluster, n, cost float64) {
			c.Settled, c.BytesSettled, c.SpendSettled = c.Settled+n, c.BytesSettled+n*l.bytes(), c.SpendSettled+cost
			row.SpendSettled, s.out.SpendSettled = row.SpendSettled+cost, s.out.SpendSettled+cost
		}},
	} {
		for _, p := range of.parts {
			if c := s.clusters[p.Cluster]; c != nil {
				of.add(c, p.Share/100*l.calls, p.Spend)
			}
			if p.Unpriced && l.bytes() > 0 {
				s.unknown(fmt.Sprintf("%s: the price book has no price for the way there: it counts as free", p.Cluster))
			}
		}
	}
}

// breaks notes what would go wrong that does not go wrong now.
func (s *simulation) breaks(row *resource.SimulatedService) {
	refusedNow, panicNow := troubles(row.Before)
	busiest := 0.0
	for _, p := range row.Before {
		busiest = max(busiest, p.PerEndpoint)
	}
	for _, m := range []struct {
		when  string
		parts []resource.SimulatedPart
	}{{AtOnce, row.AtOnce}, {Settled, row.Settled}} {
		note := func(what, reason string, share float64) {
			s.out.Breaks = append(s.out.Breaks, resource.SimulatedBreak{
				Service: row.Service, Port: row.Port, Gateway: row.Gateway, When: m.when, What: what, Reason: reason, Share: share,
			})
		}
		refused, inPanic := troubles(m.parts)
		for _, status := range slices.Sorted(maps.Keys(refused)) {
			if refused[status] > refusedNow[status] {
				note("refused", status, refused[status])
			}
		}
		if inPanic > panicNow {
			note("panic", "too few endpoints are ready: calls go to those that are not, too", inPanic)
		}
		for _, p := range m.parts {
			if busiest > 0 && p.PerEndpoint > overload*busiest {
				note("overload", fmt.Sprintf("an endpoint of %s gets %.3g calls/s, %.2g times as many as the busiest now", p.Cluster, p.PerEndpoint, p.PerEndpoint/busiest), p.Share)
			}
		}
	}
}

func troubles(parts []resource.SimulatedPart) (refused map[string]float64, inPanic float64) {
	refused = make(map[string]float64)
	for _, p := range parts {
		if p.Cluster == "" {
			refused[p.Status] += p.Share
		}
		inPanic += p.InPanic
	}
	return refused, inPanic
}
