package drill

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/federation/simulate"
)

// Predict says what isthmus simulate says of an order, for the services that it is about.
// Endpoints of the own cluster and of zones are taken out of what the simulation starts
// from: to it, a cluster is lost with its callers.
func Predict(rec *simulate.Recording, o *Order, down []catalog.ClusterName, seed uint64) *resource.Simulation {
	var change simulate.Change
	own := false
	for _, c := range down {
		if len(rec.Gateways) > 0 && c == rec.Gateways[0].Table.Cluster.Name {
			own = true
			continue
		}
		change.Down = append(change.Down, simulate.Place{Cluster: c, Cloud: string(c)})
	}
	out := simulate.Simulate(rec, change, seed)
	if own || len(o.Zones) > 0 {
		atOnce := simulate.Simulate(without(rec, o.Zones, own, false), change, seed)
		settled := simulate.Simulate(without(rec, o.Zones, own, true), change, seed)
		for i := range out.Services {
			s := &out.Services[i]
			s.AtOnce, s.Settled = partsIn(atOnce, s).AtOnce, partsIn(settled, s).Settled
		}
		out.Breaks = breaksOf(atOnce, settled)
		for i := range out.Clusters {
			out.Clusters[i].AtOnce, out.Clusters[i].Settled = 0, 0
		}
		for i := range out.Services {
			charge(out, &out.Services[i])
		}
	}
	if len(o.Services) > 0 {
		out.Services = slices.DeleteFunc(out.Services, func(s resource.SimulatedService) bool { return !slices.Contains(o.Services, s.Service) })
		out.Breaks = slices.DeleteFunc(out.Breaks, func(b resource.SimulatedBreak) bool { return !slices.Contains(o.Services, b.Service) })
	}
	return out
}

// breaksOf are what breaks at once in one simulation, and settled in the other.
func breaksOf(atOnce, settled *resource.Simulation) (out []resource.SimulatedBreak) {
	for when, s := range map[string]*resource.Simulation{simulate.AtOnce: atOnce, simulate.Settled: settled} {
		for _, b := range s.Breaks {
			if b.When == when {
				out = append(out, b)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b resource.SimulatedBreak) int { return a.Service.Compare(b.Service) })
	return out
}

func charge(out *resource.Simulation, s *resource.SimulatedService) {
	for i := range out.Clusters {
		c := &out.Clusters[i]
		for _, p := range s.AtOnce {
			if p.Cluster == c.Cluster {
				c.AtOnce += p.Share / 100 * s.PerSecond
			}
		}
		for _, p := range s.Settled {
			if p.Cluster == c.Cluster {
				c.Settled += p.Share / 100 * s.PerSecond
			}
		}
	}
}

func partsIn(s *resource.Simulation, like *resource.SimulatedService) resource.SimulatedService {
	for i := range s.Services {
		if x := &s.Services[i]; x.Service == like.Service && x.Port == like.Port && x.Gateway == like.Gateway {
			return *x
		}
	}
	return resource.SimulatedService{}
}

// without is a recording in which the endpoints of zones, and all own ones, are gone or,
// before it has settled, out of service.
func without(rec *simulate.Recording, zones []catalog.Locality, own, settled bool) *simulate.Recording {
	out := *rec
	out.Gateways = slices.Clone(rec.Gateways)
	for i := range out.Gateways {
		g := &out.Gateways[i]
		table, report := *g.Table, *g.Report
		table.Services, report.Targets = slices.Clone(table.Services), slices.Clone(report.Targets)
		for k := range table.Services {
			s := &table.Services[k]
			s.Endpoints = endpointsWithout(s.Endpoints, table.Cluster.Locality, zones, own, settled)
			s.Remote = slices.Clone(s.Remote)
			for n := range s.Remote {
				remoteWithout(&table, &report, s, &s.Remote[n], zones, settled)
			}
		}
		g.Table, g.Report = &table, &report
	}
	return &out
}

func endpointsWithout(list []catalog.Endpoint, here catalog.Locality, zones []catalog.Locality, own, settled bool) []catalog.Endpoint {
	out := make([]catalog.Endpoint, 0, len(list))
	for _, e := range list {
		at := e.Locality
		if at.Cloud == "" {
			at = here
		}
		if own || slices.Contains(zones, at) {
			if settled {
				continue
			}
			e.Health = catalog.Critical
		}
		out = append(out, e)
	}
	return out
}

func remoteWithout(t *route.Table, report *route.Report, s *route.Service, r *route.Remote, zones []catalog.Locality, settled bool) {
	i, ok := slices.BinarySearchFunc(t.Peers, r.Cluster, func(p route.Peer, c catalog.ClusterName) int {
		switch {
		case p.Name < c:
			return -1
		case p.Name > c:
			return 1
		}
		return 0
	})
	if !ok {
		return
	}
	type sum struct{ left, all uint32 }
	ports := make(map[string]sum)
	rows := make([]catalog.SummaryRow, 0, len(r.Rows))
	for _, row := range r.Rows {
		n := ports[row.Port]
		n.all += row.Ready
		if slices.Contains(zones, t.Peers[i].Locality.WithZone(row.Zone)) {
			ports[row.Port] = n
			if settled {
				continue
			}
			row.Ready = 0
		}
		n.left += row.Ready
		ports[row.Port] = n
		rows = append(rows, row)
	}
	r.Rows = rows
	for k := range report.Targets {
		x := &report.Targets[k]
		if n, known := ports[x.Target.Port]; known && x.Target.Service == s.Name && x.Target.Cluster == r.Cluster && x.Reported && n.all > 0 && n.left < n.all {
			lost := uint32(uint64(x.Ready) * uint64(n.all-n.left) / uint64(n.all))
			if x.Ready -= lost; settled {
				x.Total -= min(lost, x.Total)
			}
		}
	}
}
