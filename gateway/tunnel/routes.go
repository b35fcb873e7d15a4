package tunnel

import (
	"cmp"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// routes are, by cluster, the links that take new streams. They are immutable
// and replaced when a link changes: a stream costs no lock.
type routes map[string][]*link

// reroute rebuilds the routes after a change that is not a link's own.
func (n *Node) reroute() {
	n.mu.Lock()
	n.rebuild()
	n.mu.Unlock()
	notify(n.changes)
}

// rebuild replaces the routes. mu is held.
//
// We send on links that we dialed; only to a gateway that we have not (yet)
// reached, on those that it dialed. So each side chooses its own path, and a
// gateway behind NAT is called back.
//
// QUIC comes first. The TLS lane is for a gateway that QUIC does not reach, or has
// lost more than once lately (package ladder).
//
// A gateway that the roster calls draining is the last choice, but one: a link
// whose peer has not said so itself is up. The roster may be older than a
// restart, and the one that would correct it comes over this very link.
func (n *Node) rebuild() {
	now := time.Now()
	n.inform(now)
	best := make(map[Remote]int)
	for l := range n.links {
		if have, ok := best[l.remote]; l.takes() && (!ok || n.rank(l, now) < have) {
			best[l.remote] = n.rank(l, now)
		}
	}
	r, leaving := make(routes), make(routes)
	for l := range n.links {
		if !l.takes() || n.rank(l, now) > best[l.remote] {
			continue
		}
		if g, ok := n.roster.Load().gateway(l.remote); ok && g.Draining {
			leaving[l.remote.Cluster] = append(leaving[l.remote.Cluster], l)
			continue
		}
		r[l.remote.Cluster] = append(r[l.remote.Cluster], l)
	}
	for cluster, links := range leaving {
		if len(r[cluster]) == 0 {
			r[cluster] = links
		}
	}
	for _, links := range r {
		slices.SortFunc(links, func(a, b *link) int {
			return cmp.Or(cmp.Compare(a.remote.Gateway, b.remote.Gateway), slices.Compare(a.id[:], b.id[:]))
		})
	}
	n.routes.Store(&r)
	n.httpNews.wake()
	n.countLinks()
}

// rank orders the links to one gateway: only those of the least are used. mu is held.
func (n *Node) rank(l *link, now time.Time) int {
	rank := 0
	if !l.dialed {
		rank = 1
	}
	switch {
	case l.lane == LaneTLS:
		return rank + 2
	case !n.trusts(l.remote, now):
		return rank + 4
	}
	return rank
}

// pick returns the best link to cluster among those that ok accepts and that
// are not in tried, or nil.
func (n *Node) pick(cluster string, tried []*link, ok func(*link) bool) *link {
	links := (*n.routes.Load())[cluster]
	if len(links) == 0 {
		return nil
	}
	var best *link
	var score int64
	first := int(n.turn.Add(1) % uint32(len(links)))
	for i := range links {
		l := links[(first+i)%len(links)]
		if slices.Contains(tried, l) || !ok(l) {
			continue
		}
		if s := l.score(); best == nil || s < score {
			best, score = l, s
		}
	}
	return best
}

// able narrows ok to the links whose other end understands what h asks for.
func able(h *wire.Header, ok func(*link) bool) func(*link) bool {
	asks := features(h)
	if asks == 0 {
		return ok
	}
	return func(l *link) bool { return l.features&asks == asks && ok(l) }
}

// features are those that the other end must have for h.
func features(h *wire.Header) uint64 {
	var asks uint64
	if h.Subset != "" {
		asks |= wire.FeatureSubsets
	}
	if h.Flow {
		asks |= wire.FeatureFlows
	}
	return asks
}

// unable is the error of a call for which no link was found: there is none, or none
// whose other end understands what h asks for.
func (n *Node) unable(cluster string, h *wire.Header, ok func(*link) bool) error {
	if l := n.pick(cluster, nil, ok); l != nil && features(h) != 0 && n.pick(cluster, nil, able(h, ok)) == nil {
		n.refusedBy(l, outboundDirection, wire.Version)
		message := "the gateway knows no subsets"
		if h.Flow && l.features&wire.FeatureFlows == 0 {
			message = "the gateway knows no flows"
		}
		return &RefusedError{Cluster: cluster, Gateway: l.remote.Gateway, Status: wire.Version, Message: message}
	}
	return &LinkError{Cluster: cluster, Status: wire.Unreachable, Err: errNoLink}
}

// leastBusy returns the connection with the fewest streams among those that are
// alive and not in tried, or nil.
func leastBusy(connections []*connection, first uint32, tried []*connection) *connection {
	var best *connection
	var busy int64
	for i := range connections {
		c := connections[(int(first%uint32(len(connections)))+i)%len(connections)]
		if !c.alive() || slices.Contains(tried, c) {
			continue
		}
		if s := c.streams.Load(); best == nil || s < busy {
			best, busy = c, s
		}
	}
	return best
}

// Links lists all links, and all gateways that should have one and have none, by
// cluster, gateway and address.
func (n *Node) Links() []LinkInfo {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := make([]LinkInfo, 0, len(n.links)+len(n.targets))
	for l := range n.links {
		all = append(all, l.info())
	}
	for _, t := range n.linkless() {
		all = append(all, t.info())
	}
	slices.SortFunc(all, func(a, b LinkInfo) int {
		dialed := func(l LinkInfo) int {
			if l.Dialed {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Gateway, b.Gateway),
			cmp.Compare(dialed(a), dialed(b)), cmp.Compare(a.Address, b.Address), a.Since.Compare(b.Since))
	})
	return all
}

// linkless lists the targets that should have a link and have none. mu is held.
func (n *Node) linkless() []*target {
	linked := make(map[*target]bool, len(n.links))
	for l := range n.links {
		if l.lane == LaneQUIC {
			linked[l.owner] = true
		}
	}
	var all []*target
	for _, t := range n.targets {
		if !linked[t] && len(t.want.addresses) > 0 {
			all = append(all, t)
		}
	}
	return all
}

// countLinks sets the gauge of links by state. mu is held.
func (n *Node) countLinks() {
	type series struct {
		cluster string
		lane    Lane
		state   LinkState
	}
	counts := make(map[series]int)
	for cluster := range n.roster.Load().peers {
		for _, s := range linkStates {
			for _, on := range lanes {
				counts[series{cluster, on, s}] = 0
			}
		}
	}
	add := func(i LinkInfo) {
		if _, known := counts[series{i.Cluster, i.Lane, i.State}]; known {
			counts[series{i.Cluster, i.Lane, i.State}]++
		}
	}
	for l := range n.links {
		add(l.info())
	}
	for _, t := range n.linkless() {
		add(t.info())
	}
	for s, count := range counts {
		n.metrics.links.WithLabelValues(s.cluster, string(s.lane), string(s.state)).Set(float64(count))
	}
}
