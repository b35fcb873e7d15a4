package federation

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/exchange"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// takeReport keeps what a gateway says of itself; the mesh listener has checked
// who says it.
func (p *plane) takeReport(r *route.Report) error {
	if err := r.Gateway.Validate(); err != nil {
		return err
	}
	p.takeCallers(r)
	p.demand.take(r, p.now())
	p.prices.ledger.Take(r, p.now())
	joined, news, err := p.gateways.take(r, p.now())
	if err != nil {
		return err
	}
	p.drills.take(r)
	if joined {
		p.events.note(eventGatewayJoined, r.Gateway.Name, "")
	}
	if t := p.tables.current(); t != nil && ahead(r, t.Head()) {
		p.raiseEpoch(r.Gateway.Name, r.Epoch)
	}
	if joined || news {
		p.touch(evidenceChanged)
	}
	return nil
}

// shareBudgets answers a report with the gateway's shares.
func (p *plane) shareBudgets(r *route.Report) *route.Shares {
	n := p.gateways.count()
	if r.Gateway.Draining { // it takes nothing new: what it holds goes to the others
		p.shares.Forget(r.Gateway.Name)
		return &route.Shares{Gateways: n}
	}
	return p.shares.Report(r.Gateway.Name, r.Demands, n, p.now())
}

// countGateways has a table made when the number of gateways has changed by which they
// split budgets.
func (p *plane) countGateways() {
	if t := p.loop.table; t != nil && t.Head().Gateways != p.sharing() {
		p.touch(catalogChanged)
	}
}

// sharing is how many gateways share budgets; 0 where there is none to be shared.
func (p *plane) sharing() int {
	if p.loop.index == nil || !p.loop.index.SharesBudgets() {
		return 0
	}
	return p.gateways.count()
}

// saysMore reports whether a gateway's report leads to more than new figures in
// the lists, which look brings: it has another word on itself, on an endpoint or on
// which clusters can be reached.
func saysMore(was, is *route.Report) bool {
	return !was.Gateway.Equal(is.Gateway) || was.Control != is.Control || was.Locality != is.Locality ||
		!slices.EqualFunc(was.Endpoints, is.Endpoints, func(a, b route.EndpointReport) bool {
			return a.Endpoint == b.Endpoint && a.Known == b.Known && a.Healthy == b.Healthy && a.Reason == b.Reason && a.Since.Equal(b.Since)
		}) ||
		!slices.EqualFunc(was.Links, is.Links, func(a, b route.LinkReport) bool { return a.Cluster == b.Cluster && a.State == b.State })
}

// ahead: the gateway routes by a table that this federation has not made.
func ahead(r *route.Report, t *route.Table) bool {
	return r.Epoch > t.Epoch || r.Epoch == t.Epoch && r.Version > t.Version
}

// noteGateways keeps the journal of gateways that come and go, and wakes the
// importers of peers that can be reached again.
func (p *plane) noteGateways(now time.Time) {
	for _, name := range p.gateways.sweep(now) {
		p.events.note(eventGatewayLeft, name, "silent for "+forgetAfter.String())
		p.metrics.forgetGateway(name)
		p.demand.forget(name)
		p.touch(evidenceChanged)
	}
	alive := make(map[string]bool)
	for _, h := range p.gateways.all() {
		name := h.report.Gateway.Name
		alive[name] = h.alive(now)
		if p.loop.alive[name] && !alive[name] {
			p.events.note(eventGatewaySilent, name, "no report for "+aliveFor.String())
			p.touch(evidenceChanged)
		}
	}
	p.loop.alive = alive
}

// nudge wakes importers whose peer has a link again: their back-off may have
// grown long while there was none.
func (p *plane) nudge(fresh []heard) {
	up := make(map[catalog.ClusterName]bool)
	for _, h := range fresh {
		for _, l := range h.report.Links {
			if l.State == "up" {
				up[l.Cluster] = true
			}
		}
	}
	for _, q := range p.peers.all() {
		name := q.name
		if up[name] && !p.loop.linkUp[name] && q.importer.Status().State != exchange.StateOK {
			q.importer.Nudge()
		}
	}
	p.loop.linkUp = up
}

// notePeers keeps the journal of the peers' states.
func (p *plane) notePeers() {
	all := p.peers.all()
	if p.loop.known == nil {
		p.loop.known = make(map[catalog.ClusterName]knownPeer, len(all))
	}
	for _, q := range all {
		st := q.importer.Status()
		name := q.name
		before, known := p.loop.known[name]
		now := knownPeer{state: st.State, epoch: st.Position.Epoch}
		if known && before == now {
			continue
		}
		if before.epoch != 0 && before.epoch < now.epoch {
			p.events.note(eventPeerRestarted, string(name), fmt.Sprintf("epoch went from %d to %d: its federation has started anew, or was restored and went above what is held of it", before.epoch, now.epoch))
		}
		if !known || before.state != now.state {
			reason := string(st.State)
			if st.Err != nil {
				reason += reasonAfter(st.Err.Error())
			}
			p.events.note(eventPeerState, string(name), reason)
		}
		p.loop.known[name] = now
	}
	if len(p.loop.known) > len(all) {
		maps.DeleteFunc(p.loop.known, func(name catalog.ClusterName, _ knownPeer) bool {
			return !slices.ContainsFunc(all, func(q *peer) bool { return q.name == name })
		})
	}
	p.refreshPeers()
}

// rereadBundles takes bundle files that have changed.
func (p *plane) rereadBundles() {
	for _, q := range p.peers.all() {
		if q.foreign && q.spec.Load().Bundle.File != "" {
			p.loadBundle(q)
		}
	}
}
