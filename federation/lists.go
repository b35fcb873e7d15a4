package federation

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/api"
	"github.com/isthmus-mesh/isthmus/federation/api/feed"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/exchange"
)

// newLists makes the lists of the REST API. What moves all the time without
// anything having happened (ages) is no change.
func newLists(base uint64, j *journal) api.Lists {
	return api.Lists{
		Clusters: feed.New(base, sameCluster),
		Peers: feed.New(base, func(a, b resource.Peer) bool {
			a.HeardAt = b.HeardAt
			if a.Trust != nil && b.Trust != nil {
				a.Trust = a.Trust.AsOf(b.Trust)
			}
			return reflect.DeepEqual(a, b)
		}),
		Services:  deepFeed[resource.Service](base),
		Endpoints: feed.New(base, sameEndpoint),
		Gateways: feed.New(base, func(a, b resource.Gateway) bool {
			a.ReportedAt = b.ReportedAt
			return reflect.DeepEqual(a, b)
		}),
		Links: feed.New(base, sameLink),
		Sources: feed.New(base, func(a, b resource.Source) bool {
			a.Age, a.LastSuccess = b.Age, b.LastSuccess
			return reflect.DeepEqual(a, b)
		}),
		Replicas: deepFeed[resource.Replica](base),
		Events:   j.feed,
	}
}

func deepFeed[T any](base uint64) *feed.Feed[T] {
	return feed.New(base, func(a, b T) bool { return reflect.DeepEqual(a, b) })
}

// sameCluster is written out: all of them are looked at every second.
func sameCluster(a, b resource.Cluster) bool {
	return a.Name == b.Name && a.ID == b.ID && a.Locality == b.Locality && a.Own == b.Own && a.State == b.State &&
		a.Gateways == b.Gateways && a.Services == b.Services && maps.Equal(a.Labels, b.Labels)
}

// sameEndpoint is written out: there may be very many.
func sameEndpoint(a, b resource.Endpoint) bool {
	return a.Key == b.Key && a.Address == b.Address && a.Health == b.Health && a.Weight == b.Weight &&
		a.Locality == b.Locality && a.Source == b.Source && a.Quarantined == b.Quarantined &&
		a.Transport == b.Transport && a.ServerID == b.ServerID &&
		maps.Equal(a.Labels, b.Labels) && slices.Equal(a.Verdicts, b.Verdicts)
}

// sameLink is written out, too: every gateway has a link to every cluster, and
// reports all of them every second.
func sameLink(a, b resource.Link) bool {
	for _, t := range []struct{ x, y *time.Time }{{&a.Since, &b.Since}, {&a.Expires, &b.Expires}, {&a.PeerNotAfter, &b.PeerNotAfter}} {
		if !t.x.Equal(*t.y) {
			return false
		}
		*t.y = *t.x // of one zone
	}
	return a == b
}

// refreshLists brings the lists in line with what the changes touch.
func (p *plane) refreshLists(c change) {
	now := p.now()
	names := p.loop.census.names
	if c&evidenceChanged != 0 || p.loop.verdicts == nil {
		fresh := p.gateways.fresh(now)
		p.nudge(fresh)
		p.refreshGateways()
		next := newVerdicts(fresh)
		differ := next.differ(p.loop.verdicts)
		p.loop.verdicts = next
		p.refreshServices(differ)
		p.failHeld(next)
	} else {
		p.refreshServices(nil)
		p.failHeld(p.loop.verdicts)
	}
	// Peers say something all the time: look lists them, once a second.
	if !slices.Equal(names, p.loop.census.names) {
		p.refreshPeers()
	}
}

// refreshGateways lists gateways and links, silent gateways included.
func (p *plane) refreshGateways() {
	now := p.now()
	all := p.gateways.all()
	var list []feed.Entry[resource.Gateway]
	count := 0
	for _, h := range all {
		count += len(h.report.Links)
	}
	links := make([]feed.Entry[resource.Link], 0, count)
	for _, h := range all {
		r := h.report
		g := resource.Gateway{
			Name: r.Gateway.Name, ID: r.Gateway.ID, Addresses: r.Gateway.Addresses, Draining: r.Gateway.Draining,
			Locality: r.Locality, State: "alive", ReportedAt: h.at.UTC(), StartedAt: r.StartedAt, Build: r.Build,
			Epoch: r.Epoch, Version: r.Version, Links: len(r.Links), Ways: r.Ways[:min(len(r.Ways), maxWays)],
			Switches: r.SwitchedBy,
		}
		for _, l := range r.Links {
			if l.State == "up" {
				g.LinksUp++
			}
		}
		if !h.alive(now) {
			g.State = "silent"
		}
		list = append(list, feed.Entry[resource.Gateway]{Key: g.Name, Item: g})
		if !h.alive(now) {
			continue // what its links were is no longer known
		}
		for _, l := range r.Links {
			side := "accepted"
			if l.Dialed {
				side = "dialed"
			}
			key := g.Name + "/" + string(l.Cluster) + "/" + cmp.Or(l.Gateway, "-") + "/" + side + "/" + l.Address
			links = append(links, feed.Entry[resource.Link]{Key: key, Item: resource.Link{Key: key, From: g.Name, LinkReport: l}})
		}
	}
	p.lists.Gateways.Replace(list)
	p.lists.Links.Replace(unique(links))
}

// unique sorts entries by key and drops repetitions: a gateway decides what it
// reports.
func unique[T any](entries []feed.Entry[T]) []feed.Entry[T] {
	slices.SortStableFunc(entries, func(a, b feed.Entry[T]) int { return cmp.Compare(a.Key, b.Key) })
	return slices.CompactFunc(entries, func(a, b feed.Entry[T]) bool { return a.Key == b.Key })
}

// refreshSources lists the sources.
func (p *plane) refreshSources() {
	list := make([]feed.Entry[resource.Source], 0, len(p.sources))
	for _, s := range p.sources {
		st := s.runner.Status()
		item := resource.Source{
			Name: st.Name, Kind: st.Kind, State: string(st.State), Error: cmp.Or(st.Err, st.StoreErr),
			LastSuccess: st.LastSuccess.UTC(), Age: st.Age, Version: st.Version, Services: st.Services, Endpoints: st.Endpoints,
			QuarantinedCount: st.QuarantinedCount,
		}
		if st.LastSuccess.IsZero() {
			item.LastSuccess = st.LastSuccess
		}
		for _, q := range st.Quarantined {
			item.Quarantined = append(item.Quarantined, q.Service.String()+"/"+q.ID)
		}
		for _, n := range st.Refused {
			item.Refused += n
		}
		list = append(list, feed.Entry[resource.Source]{Key: s.Name, Item: item})
	}
	p.lists.Sources.Replace(unique(list))
}

// showPeers lists the peers of now, at once: who has written one reads it in the
// list, too. The counts are those of the last round.
func (p *plane) showPeers() {
	p.listing.Lock()
	defer p.listing.Unlock()
	var list []feed.Entry[resource.Peer]
	same := make(map[string]bool)
	for _, q := range p.peers.all() {
		before, _ := p.lists.Peers.Get(string(q.name))
		item, as := p.peerItem(q, before.Imported)
		list = append(list, feed.Entry[resource.Peer]{Key: string(q.name), Item: item})
		same[string(q.name)] = as
	}
	p.lists.Peers.ReplaceBut(list, same)
}

// refreshPeers lists peers and clusters.
func (p *plane) refreshPeers() {
	p.listing.Lock()
	defer p.listing.Unlock()
	now := p.now()
	count := &p.loop.census
	gateways := 0
	for _, h := range p.gateways.fresh(now) {
		if !h.report.Gateway.Draining {
			gateways++
		}
	}
	all := p.peers.all()
	clusters := make([]feed.Entry[resource.Cluster], 0, len(all)+1)
	clusters = append(clusters, feed.Entry[resource.Cluster]{Key: string(p.opts.Cluster), Item: resource.Cluster{
		Name: p.opts.Cluster, ID: p.id.String(), Locality: p.opts.Locality, Labels: p.opts.Labels, Own: true,
		State: resource.PeerOK, Gateways: gateways, Services: count.own,
	}})
	list := make([]feed.Entry[resource.Peer], 0, len(all))
	same := make(map[string]bool, len(all))
	for _, q := range all {
		item, as := p.peerItem(q, count.imported[q.name])
		same[string(q.name)] = as
		list = append(list, feed.Entry[resource.Peer]{Key: string(item.Name), Item: item})
		c := resource.Cluster{
			Name: item.Name, ID: item.ID, Locality: item.Locality, Labels: item.Labels, State: item.State, Services: item.Imported,
		}
		for _, g := range item.Gateways {
			if !g.Draining {
				c.Gateways++
			}
		}
		clusters = append(clusters, feed.Entry[resource.Cluster]{Key: string(item.Name), Item: c})
	}
	p.lists.Peers.ReplaceBut(list, same)
	p.lists.Clusters.Replace(unique(clusters))
}

// listed is a peer's item in the list with what it was made of.
type listed struct {
	status   exchange.Status // without HeardAt
	snapshot *exchange.Snapshot
	spec     *Peer
	via      string
	imported int
	stored   resource.Stored
	item     resource.Peer
}

// peerItem is the peer as it is to be listed, and whether that is as it was listed
// before, but for when it was heard: mostly it is. The caller holds listing.
func (p *plane) peerItem(q *peer, imported int) (item resource.Peer, same bool) {
	st := q.importer.Status()
	heard := st.HeardAt
	if !heard.IsZero() {
		heard = heard.UTC()
	}
	st.HeardAt = time.Time{}
	now := listed{status: st, snapshot: q.importer.Snapshot(), spec: q.spec.Load(), via: q.dialer.lastVia(), imported: imported}
	if rule, ok := p.book.PeerRules().Feed().Get(string(q.name)); ok {
		now.stored = rule.Stored
	}
	if was := q.listed; was != nil && !q.foreign && was.status.Err == nil && st.Err == nil && was.status == now.status && was.snapshot == now.snapshot && was.spec == now.spec &&
		was.via == now.via && was.imported == now.imported && reflect.DeepEqual(was.stored, now.stored) {
		item = was.item
		item.HeardAt = heard
		return item, true
	}
	kept := now // which now, of every peer in every second, is not
	kept.item = p.newPeerItem(q, &kept)
	q.listed = &kept
	kept.item.HeardAt = heard
	return kept.item, false
}

func (p *plane) newPeerItem(q *peer, of *listed) resource.Peer {
	st, spec := of.status, of.spec
	item := resource.Peer{
		Name: q.name, ID: spec.ID, TrustDomain: q.id.TrustDomain().Name(), Locality: spec.Locality(), Labels: labelsOf(spec, of.snapshot),
		State: resource.PeerState(st.State), ControlLost: st.ControlLost,
		Epoch: st.Position.Epoch, Version: st.Position.Version, Via: of.via,
		Bootstrap: spec.Gateways, Gateways: of.snapshot.Gateways(), Asserts: spec.Asserts,
		Offered: len(of.snapshot.Services()), Imported: of.imported, Conflicts: of.snapshot.Conflicts(),
		Trust: p.trustItem(q), Spec: *spec, Stored: of.stored,
	}
	if st.Err != nil {
		item.Reason = st.Err.Error()
	}
	return item
}
