package simulation

import (
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// standing is whether a gateway has had a way to a service since things are well.
type standing struct {
	well  bool
	since time.Duration
	had   bool // a way, at some moment of it
	life  int
}

// look judges by time: I3 for every gateway and service, and I10 for calls that
// go on.
func (o *oracle) look() {
	o.s.stats.Checks++
	for _, g := range o.s.gateways {
		if !g.up || g.board.Plan() == nil || g.held > o.s.now {
			for _, name := range o.s.names {
				for _, c := range o.s.clusters {
					delete(o.routable, routeKey{g, name, c})
				}
			}
			continue
		}
		for _, name := range o.s.names {
			o.route(g, name)
		}
		o.linksOf(g)
		for _, c := range g.calls {
			if v := g.home.service(c.service); v != nil && (c.local || c.attempt != nil && c.attempt.Choice.Target.Cluster == g.home.name) {
				o.goesOn(c)
			}
		}
	}
	o.s.after(lookEvery, o.look)
}

// linksOf: a link with a gateway of a peer that has been removed for long.
func (o *oracle) linksOf(g *gateway) {
	for _, e := range g.ends {
		peer := e.far.gateway.home.name
		since := o.refusedSince(g.home, func(r rules) bool { return !slices.Contains(r.removed, peer) })
		if since >= 0 && o.mustKnow(g, since) {
			o.violated(Revoked, "%s keeps a link with %s, removed %v ago", g.name, e.far.gateway.name, o.s.now-since)
		}
	}
}

// goesOn: a call in progress that has been denied for long.
func (o *oracle) goesOn(c *call) {
	g := c.at
	yes := func(r rules) bool { return r.allows(g.home.name, c.from.name, c.service) }
	if since := o.refusedSince(g.home, yes); since >= 0 && o.mustKnow(g, since) {
		o.violated(Revoked, "call %d of %s to %s goes on at %s, denied %v ago", c.id, c.from.name, c.service, g.name, o.s.now-since)
	}
}

// route is I3: where there was a way to a service, there is one for as long as an
// instance is healthy, the rules stand and the gateway lives; and where all has been
// well for a while, there is one. Whatever registries say and federations do.
func (o *oracle) route(g *gateway, name catalog.ServiceName) {
	now := o.s.now
	plan := o.s.seams.plan(g)
	req := route.Request{Service: name, Random: 0x9e3779b97f4a7c15, NowNanos: g.clock().UnixNano()}
	choice, _ := plan.Pick(&req)
	ok := choice.Status == route.OK
	for _, c := range o.s.clusters {
		key := routeKey{g, name, c}
		st := o.routable[key]
		if st == nil {
			st = &standing{since: now}
			o.routable[key] = st
		}
		if well := o.provides(g, name, c); well != st.well || st.life != g.life {
			*st = standing{well: well, since: now, life: g.life}
		}
		switch {
		case !st.well:
		case ok:
			// A way by another cluster is none by this one, which a federation that lost
			// its memory may not know yet.
			st.had = st.had || lists(g.table, name, c.name)
		case st.had:
			o.violated(Routable, "%s has lost its way to %s (%s), which has a healthy instance at %s and had a way for %v", g.name, name, choice.Status, c.name, now-st.since)
		case now-st.since > settled && o.quiet != 0 && now-o.quiet > settled:
			o.violated(Routable, "%s has no way to %s (%s), which has a healthy instance at %s for %v", g.name, name, choice.Status, c.name, now-st.since)
		}
	}
}

// lists reports whether a table says that a cluster has the service.
func lists(t *route.Table, name catalog.ServiceName, c catalog.ClusterName) bool {
	for i := range t.Services {
		if s := &t.Services[i]; s.Name == name {
			return c == t.Cluster.Name && len(s.Endpoints) > 0 ||
				slices.ContainsFunc(s.Remote, func(r route.Remote) bool { return r.Cluster == c })
		}
	}
	return false
}

// linkChanged is told of a link that came or went: what follows from that takes a
// moment.
func (o *oracle) linkChanged(e *end) {
	for _, name := range o.s.names {
		delete(o.routable, routeKey{e.gateway, name, e.far.gateway.home})
	}
}

// forgets is told that a federation that has lost its memory goes on without a peer
// that could not be asked for as long as it waits: what it had of that is gone.
func (o *oracle) forgets(f *federation) {
	for k := range o.routable {
		if k.g.home == f.home {
			delete(o.routable, k)
		}
	}
}

// provides reports whether a cluster has a healthy instance of a service that the
// gateway may call, by the rules of both sides, over a link.
func (o *oracle) provides(g *gateway, name catalog.ServiceName, c *cluster) bool {
	v := c.service(name)
	if v == nil {
		return false
	}
	healthy := false
	for _, i := range v.instances {
		healthy = healthy || i.healthy(o.s.now)
	}
	if !healthy || o.changedLately(g.home) || o.changedLately(c) {
		return false
	}
	if c == g.home {
		return true
	}
	imports := slices.Contains(g.home.rules.imported[c.name], name)
	return imports && !slices.Contains(g.home.rules.removed, c.name) && c.rules.allows(c.name, g.home.name, name) && !slices.Contains(c.rules.removed, g.home.name) &&
		g.reachable(c.name)
}

// changedLately: rules that changed are on their way, here or there.
func (o *oracle) changedLately(c *cluster) bool {
	h := o.history[c]
	return len(h) > 0 && o.s.now-h[len(h)-1].from < settled
}

// agree is I4: all nodes are equal, and what they hold is the truth.
func (o *oracle) agree() {
	for _, c := range o.s.clusters {
		f := c.fed
		if !f.up || f.table == nil {
			o.violated(Agreement, "%s does not serve", f.name)
			return
		}
		if !f.guard.Effective().Equal(c.truth()) {
			o.violated(Agreement, "%s does not have what its source says; %d endpoints are held", f.name, f.guard.Held())
		}
		want := f.table.Head()
		for _, g := range c.gateways {
			if g.table == nil || g.table.Epoch != want.Epoch || g.table.Version != want.Version {
				epoch, version := uint64(0), uint64(0)
				if g.table != nil {
					epoch, version = g.table.Epoch, g.table.Version
				}
				o.violated(Agreement, "%s has table %d.%d, its federation %d.%d", g.name, epoch, version, want.Epoch, want.Version)
			}
		}
		for _, p := range o.s.clusters {
			if p != c && !slices.Contains(c.rules.removed, p.name) && !slices.Contains(p.rules.removed, c.name) {
				o.agreeOn(f, p)
			}
		}
	}
}

func (o *oracle) agreeOn(f *federation, p *cluster) {
	l := f.peers[p.name]
	if l == nil || l.watch == nil {
		o.violated(Agreement, "%s does not hear %s", f.name, p.name)
		return
	}
	have, at := l.applier.Snapshot().Position(), p.fed.exporter.Position(f.home.name)
	if have != at {
		o.violated(Agreement, "%s has (%d, %d) of %s, which is at (%d, %d)", f.name, have.Epoch, have.Version, p.name, at.Epoch, at.Version)
	}
	if l.lost {
		o.violated(Agreement, "%s counts %s as lost", f.name, p.name)
	}
	for _, g := range f.home.gateways {
		for _, far := range p.gateways {
			if g.endTo(far) == nil {
				o.violated(Agreement, "%s has no link with %s", g.name, far.name)
			}
		}
	}
}

// sum closes the account.
func (o *oracle) sum() {
	o.s.mix(o.s.stats.Calls)
	o.s.mix(o.s.stats.Answered)
	o.s.mix(o.s.stats.Executions)
}
