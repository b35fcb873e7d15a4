package route

import (
	"fmt"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// drilling is the drill of a plan.
type drilling struct {
	*Drill
	down  map[catalog.ClusterName]bool
	salt  uint64
	until int64
}

// drillOf is the drill that a plan is compiled with: none where an operator's switch is
// set at the gateway, which goes before it.
func drillOf(t *Table, e *Evidence) *drilling {
	d := t.Drill
	if d == nil || e.Switches != (Switches{}) || d.Validate() != nil {
		return nil
	}
	out := &drilling{Drill: d, down: make(map[catalog.ClusterName]bool, len(d.Down)), salt: hashText(d.ID) ^ saltDrill, until: d.Until.UnixNano()}
	for _, c := range d.Down {
		out.down[c] = true
	}
	return out
}

// drilled is the layout of a port as if the places were lost; nil where it is no other.
// all are the candidates after all rules, and stay as they are.
func (c *compiler) drilled(sp *servicePlan, port catalog.Port, all []candidate) *layout {
	d := c.plan.drill
	if d == nil || !d.Covers(sp.service.Name) {
		return nil
	}
	touched := make(map[catalog.ClusterName]bool)
	rest := slices.Clone(all)
	for i := range rest {
		if d.takes(c, &rest[i]) {
			touched[rest[i].target.Cluster] = true
		}
	}
	if len(touched) == 0 {
		return nil
	}
	sumLost(rest, touched)
	l := c.layout(sp, port, "drill", rest)
	l.probes = nil // a probation is an experiment of its own
	return l
}

// takes takes from a candidate what the drill says is lost, and reports whether that is
// anything.
func (d *drilling) takes(c *compiler, cand *candidate) bool {
	if d.down[cand.target.Cluster] {
		return d.lose(cand, cand.known, cand.total, fmt.Sprintf("counts as lost in drill %s", d.ID))
	}
	for _, z := range d.Zones {
		if cand.own() {
			if !cand.quarantined && cand.locality == z {
				return d.lose(cand, cand.known, cand.total, fmt.Sprintf("zone %s counts as lost in drill %s", z.Zone, d.ID))
			}
			continue
		}
		if peer := c.plan.peers[cand.target.Cluster]; peer != nil && peer.Locality.WithZone(z.Zone) == z {
			ready, total := c.zoneRows(cand, z.Zone)
			return d.lose(cand, ready, total, fmt.Sprintf("zone %s counts as lost in drill %s", z.Zone, d.ID))
		}
	}
	return false
}

// lose takes endpoints from a candidate.
func (d *drilling) lose(cand *candidate, known, total uint32, detail string) bool {
	if known == 0 && total == 0 {
		return false
	}
	if !d.AtOnce {
		cand.total -= min(total, cand.total)
	}
	cand.known -= min(known, cand.known)
	if cand.known > 0 {
		cand.ready = min(cand.ready, cand.known)
		return true
	}
	if cand.reason == "" {
		cand.exclude(InDrill, time.Time{}, detail)
	}
	cand.ready = 0
	return true
}

// zoneRows are the endpoints that a peer's summary has in a zone, as a part of what is
// known of the candidate now.
func (c *compiler) zoneRows(cand *candidate, zone string) (ready, total uint32) {
	i, ok := slices.BinarySearchFunc(c.table.Services, cand.target.Service, func(s Service, n catalog.ServiceName) int { return s.Name.Compare(n) })
	if !ok {
		return 0, 0
	}
	var here, all struct{ ready, total uint64 }
	for _, r := range c.table.Services[i].Remote {
		if r.Cluster != cand.target.Cluster {
			continue
		}
		for _, row := range r.Rows {
			if row.Port != cand.port.Name || !c.subset.takesRow(row.Subset) {
				continue
			}
			all.ready, all.total = all.ready+uint64(row.Ready), all.total+uint64(row.Total)
			if row.Zone == zone {
				here.ready, here.total = here.ready+uint64(row.Ready), here.total+uint64(row.Total)
			}
		}
	}
	part := func(of uint32, n, sum uint64) uint32 {
		if sum == 0 {
			return 0
		}
		return uint32((uint64(of)*n + sum/2) / sum)
	}
	return part(cand.known, here.ready, all.ready), part(cand.total, here.total, all.total)
}

// sumLost brings the counts of whole clusters in line with those of their candidates.
func sumLost(all []candidate, touched map[catalog.ClusterName]bool) {
	for name := range touched {
		var ready, total uint32
		for i := range all {
			if all[i].target.Cluster == name {
				ready, total = ready+all[i].ready, total+all[i].total
			}
		}
		for i := range all {
			if all[i].target.Cluster == name {
				all[i].clusterReady, all[i].clusterTotal = ready, total
			}
		}
	}
}
