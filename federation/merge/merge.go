package merge

import (
	"cmp"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Merge returns the view of in.
func Merge(in Input) *View { return Update(nil, in) }

// Update returns what Merge(in) returns, and shares with prev every service
// whose inputs are the same. Where Input.Rules allows it, only the services that
// a source or a peer has changed are looked at.
func Update(prev *View, in Input) *View {
	if v, ok := incremental(prev, in); ok {
		return v
	}
	groups := make(map[catalog.ServiceName]*group, prev.Len())
	order := orderOf(in)
	gatherOwn(groups, in)
	gatherPeers(groups, in, order)
	names := make([]catalog.ServiceName, 0, len(groups))
	for n := range groups {
		names = append(names, n)
	}
	slices.SortFunc(names, catalog.ServiceName.Compare)
	v := &View{cluster: in.Cluster, services: make([]*Service, 0, len(names)), in: kept(in), ordered: ordered(in.Peers), order: order}
	for _, n := range names {
		s := again(prev.Get(n), prev.Cluster() == in.Cluster, in.Cluster, n, groups[n])
		v.services = append(v.services, s)
		v.conflict += len(s.Conflicts)
	}
	return v
}

// again returns the service of the view before, nil where there was none, where the
// group is the one that it was built of, and else builds it. sameCluster: that view
// was of the same cluster.
func again(s *Service, sameCluster bool, cluster catalog.ClusterName, n catalog.ServiceName, g *group) *Service {
	if s == nil || !sameCluster {
		return build(cluster, n, g, nil)
	}
	sameRemote := slices.Equal(s.remote, g.remote)
	ours := s.ours // what peers say changes no own endpoint
	switch sameOwn := slices.Equal(s.own, g.own); {
	case sameOwn && sameRemote:
		return s
	case sameOwn:
	case len(g.own) > 0:
		ours = new(mergeOwn(cluster, n, g.own))
	default:
		ours = nil
	}
	if next := s.renewed(g, ours, sameRemote); next != nil {
		return next
	}
	return build(cluster, n, g, ours)
}

// group is all that is said of one service, in the order of precedence. It is
// what decides whether a service of an earlier view still holds, so it must hold
// every input of build.
type group struct {
	own    []contribution
	remote []candidate
}

// contribution is one service of one own source.
type contribution struct {
	source  string
	service *catalog.Service
}

// candidate is one service of one peer that an import takes.
type candidate struct {
	cluster     catalog.ClusterName
	summary     *catalog.Summary
	rule        Import
	ordered     bool // the importer's order names the cluster
	controlLost bool
}

// rank orders the services of one cluster that are known under one name here: one
// that an import names to rename it, one that has the name itself, one whose
// namespace is mapped.
func (c candidate) rank() int {
	switch {
	case c.rule.As == c.summary.Service:
		return 1
	case c.rule.Mapped:
		return 2
	default:
		return 0
	}
}

func gatherOwn(groups map[catalog.ServiceName]*group, in Input) {
	for _, src := range in.Sources {
		for svc := range src.Snapshot.All() {
			if name, ok := src.Mapping.Apply(svc.Name); ok {
				g := groupOf(groups, name)
				// Within a source the snapshot's order of names is the precedence.
				g.own = append(g.own, contribution{source: src.Name, service: svc})
			}
		}
	}
}

func gatherPeers(groups map[catalog.ServiceName]*group, in Input, order *ordering) {
	if in.Import == nil {
		return
	}
	for _, at := range order.seats {
		p := placed{Peer: in.Peers[at.index], ordered: at.ordered}
		for _, s := range p.Summaries {
			if c, ok := p.take(in, s); ok {
				g := groupOf(groups, c.rule.As)
				g.remote = append(g.remote, c)
			}
		}
	}
	for _, g := range groups {
		g.remote = slices.Clone(g.remote) // without the room that it grew by: it stays
		sortWithinClusters(g.remote)
	}
}

// placed is a peer with its place in the importer's order.
type placed struct {
	Peer
	ordered bool // the order names it
}

// ordering are the peers of an input that count, the highest precedence first. It
// follows from their names, the own one's and Input.Order alone, and views that
// follow each other share it.
type ordering struct {
	seats []seat
	seat  map[catalog.ClusterName]int // in seats
}

// seat is one peer's index in Input.Peers, and whether Input.Order names it.
type seat struct {
	index   int
	ordered bool
}

func orderOf(in Input) *ordering {
	rank := make(map[catalog.ClusterName]int, len(in.Order))
	for i, c := range in.Order {
		if _, twice := rank[c]; !twice {
			rank[c] = i
		}
	}
	rankOf := func(c catalog.ClusterName) int {
		if r, ok := rank[c]; ok {
			return r
		}
		return len(in.Order)
	}
	all := make([]int, len(in.Peers))
	for i := range all {
		all[i] = i
	}
	slices.SortStableFunc(all, func(i, j int) int {
		a, b := in.Peers[i].Cluster, in.Peers[j].Cluster
		return cmp.Or(cmp.Compare(rankOf(a), rankOf(b)), cmp.Compare(a, b))
	})
	o := &ordering{seat: make(map[catalog.ClusterName]int, len(all))}
	for i, at := range all {
		c := in.Peers[at].Cluster
		if c == in.Cluster || i > 0 && in.Peers[all[i-1]].Cluster == c {
			continue
		}
		_, ordered := rank[c]
		o.seat[c] = len(o.seats)
		o.seats = append(o.seats, seat{index: at, ordered: ordered})
	}
	return o
}

// take is the candidate that an import makes of a summary.
func (p *placed) take(in Input, s *catalog.Summary) (candidate, bool) {
	rule, ok := in.Import(p.Cluster, s.Service)
	if !ok || rule.As.IsZero() || rule.As.IsFederation() || s.Service.IsFederation() {
		return candidate{}, false
	}
	return candidate{cluster: p.Cluster, ordered: p.ordered, summary: s, rule: rule, controlLost: p.ControlLost}, true
}

// sortWithinClusters puts the candidates of each cluster, which stand together,
// in their order of precedence.
func sortWithinClusters(list []candidate) {
	for len(list) > 1 {
		n := 1
		for n < len(list) && list[n].cluster == list[0].cluster {
			n++
		}
		slices.SortFunc(list[:n], func(a, b candidate) int {
			return cmp.Or(cmp.Compare(a.rank(), b.rank()), a.summary.Service.Compare(b.summary.Service))
		})
		list = list[n:]
	}
}

func groupOf(groups map[catalog.ServiceName]*group, name catalog.ServiceName) *group {
	g := groups[name]
	if g == nil {
		g = new(group)
		groups[name] = g
	}
	return g
}

// build merges one service; ours is the own part where that is known.
func build(cluster catalog.ClusterName, name catalog.ServiceName, g *group, ours *local) *Service {
	s := &Service{Name: name, own: g.own, remote: g.remote}
	var claims []claim
	if len(g.own) > 0 {
		if ours == nil {
			ours = new(mergeOwn(cluster, name, g.own))
		}
		l := ours
		s.ours, s.Local = l, l.service
		s.Provenance, s.Conflicts = slices.Clone(l.provenance), slices.Clone(l.conflicts)
		for i, p := range l.service.Ports {
			claims = append(claims, claim{side: l.portOwners[i], port: p})
		}
	}
	offers, remoteClaims, clashes := mergeOffers(name, g.remote)
	s.Offers = offers
	s.Conflicts = append(s.Conflicts, clashes...)

	ordered := func(n catalog.ClusterName) bool {
		return slices.ContainsFunc(g.remote, func(c candidate) bool { return c.cluster == n && c.ordered })
	}
	ports, won, conflicts := unionPorts(name, append(claims, remoteClaims...), func(winner, _ Side) Why {
		switch {
		case winner.Cluster == cluster:
			return ByOwnCluster
		case ordered(winner.Cluster):
			return ByClusterOrder
		default:
			return ByName
		}
	})
	s.Ports = ports
	s.Conflicts = append(s.Conflicts, conflicts...)
	for i, w := range won {
		s.Provenance = append(s.Provenance, Provenance{Field: "ports/" + ports[i].Name, Cluster: w.Cluster, Source: w.Source})
	}
	s.Provenance = lastOfEach(s.Provenance)
	slices.SortFunc(s.Conflicts, func(a, b Conflict) int {
		return cmp.Or(cmp.Compare(a.Field, b.Field), cmp.Compare(a.Why, b.Why), a.Winner.compare(b.Winner))
	})
	return s
}

// lastOfEach sorts by field and keeps the last entry of each: a field that a
// source filled may have been filled by a later one again.
func lastOfEach(list []Provenance) []Provenance {
	slices.SortStableFunc(list, func(a, b Provenance) int { return cmp.Compare(a.Field, b.Field) })
	out := list[:0]
	for i, p := range list {
		if i+1 == len(list) || list[i+1].Field != p.Field {
			out = append(out, p)
		}
	}
	return out
}

// mergeOffers takes one candidate of each cluster and records the others.
func mergeOffers(name catalog.ServiceName, candidates []candidate) (offers []Offer, claims []claim, conflicts []Conflict) {
	if len(candidates) > 0 {
		offers = make([]Offer, 0, len(candidates)) // there are very many, and they stay
		claims = make([]claim, 0, len(candidates))
	}
	for len(candidates) > 0 {
		first := candidates[0]
		n := 1
		for n < len(candidates) && candidates[n].cluster == first.cluster {
			n++
		}
		if n > 1 {
			conflicts = append(conflicts, importConflict(name, candidates[:n]))
		}
		candidates = candidates[n:]
		offers = append(offers, first.offer())
		side := Side{Cluster: first.cluster, Service: first.summary.Service}
		for _, p := range first.summary.Ports {
			claims = append(claims, claim{side: side, port: p})
		}
	}
	return offers, claims, conflicts
}

// offer is the candidate's, where it is the one of its cluster.
func (c *candidate) offer() Offer {
	return Offer{
		Cluster: c.cluster, Name: c.summary.Service, Ports: c.summary.Ports,
		Rows: capped(c.summary.Rows, c.rule.MaxCapacity), Rule: c.rule.Rule, ControlLost: c.controlLost,
	}
}

// importConflict is that of several services of one cluster under one name.
func importConflict(name catalog.ServiceName, candidates []candidate) Conflict {
	first := candidates[0]
	c := Conflict{
		Service: name, Field: "import", Why: ByName, Disagree: len(candidates) - 1, Of: len(candidates),
		Winner: Side{Cluster: first.cluster, Service: first.summary.Service, Value: first.rule.Rule},
	}
	switch second := candidates[1]; {
	case first.rank() == second.rank():
	case first.rank() == 0:
		c.Why = ByRename
	default:
		c.Why = ByOwnName
	}
	for _, l := range candidates[1:] {
		c.Losers = append(c.Losers, Side{Cluster: l.cluster, Service: l.summary.Service, Value: l.rule.Rule})
	}
	slices.SortFunc(c.Losers, Side.compare)
	return c
}

// capped applies an import's MaxCapacity; rows that need no change are shared.
func capped(rows []catalog.SummaryRow, most uint64) []catalog.SummaryRow {
	exceeds := func(r catalog.SummaryRow) bool { return r.Capacity > most || r.Capacity == 0 }
	if most == 0 || !slices.ContainsFunc(rows, exceeds) {
		return rows
	}
	rows = slices.Clone(rows)
	for i := range rows {
		if exceeds(rows[i]) {
			rows[i].Capacity = most
		}
	}
	return rows
}
