package simulation

import (
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// takeReport keeps what a gateway says of itself.
func (f *federation) takeReport(g *gateway, r *route.Report) {
	before, had := f.reports[g]
	f.reports[g] = gatewayReport{r, f.now}
	if t := f.table; t != nil && (r.Epoch > t.Head().Epoch || r.Epoch == t.Head().Epoch && r.Version > t.Head().Version) {
		f.ahead(r.Epoch)
	}
	if !had || f.now-before.at > aliveFor || says(before.report) != says(r) {
		f.evidence = true
		f.touch()
	}
}

// ahead is told of a gateway's table that is not of this memory.
func (f *federation) ahead(epoch uint64) {
	f.raise = max(f.raise, epoch)
	f.touch()
}

// says is what of a report leads to a round: what it says of endpoints.
func says(r *route.Report) (n uint64) {
	for i, e := range r.Endpoints {
		if e.Known && e.Healthy {
			n |= 1 << (i % 64)
		}
	}
	return n + uint64(len(r.Endpoints))<<32
}

// fresh are the gateways whose reports are evidence now.
func (f *federation) fresh() (list []*gateway) {
	for _, g := range f.home.gateways {
		if r, ok := f.reports[g]; ok && f.now-r.at <= aliveFor {
			list = append(list, g)
		}
	}
	return list
}

// rosterKnown waits at a start for the gateways of before.
func (f *federation) rosterKnown(fresh []*gateway) bool {
	var names []string
	for _, g := range fresh {
		names = append(names, g.short)
	}
	if !f.gate.Roster(f.clock(), names) {
		return false
	}
	if len(names) > 0 {
		f.disk.roster = names
	}
	return true
}

// look does what is due by time alone: gateways that fell silent, leases.
func (f *federation) look() {
	for _, g := range f.home.gateways {
		if r, ok := f.reports[g]; ok && f.now-r.at > aliveFor && f.now-r.at <= aliveFor+2*time.Second {
			f.evidence = true
			f.touch()
		}
	}
	if f.gate.Waits() {
		f.touch()
	}
	// Streams whose back-off has grown long are opened when there is a link again.
	up := make(map[catalog.ClusterName]bool)
	for _, g := range f.fresh() {
		for _, l := range f.reports[g].report.Links {
			up[l.Cluster] = true
		}
	}
	for _, c := range f.s.clusters {
		if l := f.peers[c.name]; l != nil && up[c.name] && !f.linkUp[c.name] {
			l.nudge()
		}
	}
	f.linkUp = up
	for _, c := range f.s.clusters {
		if l := f.peers[c.name]; l != nil {
			l.lease()
		}
	}
	f.after(time.Second, f.look)
}
