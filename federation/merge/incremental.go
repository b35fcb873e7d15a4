package merge

import (
	"cmp"
	"iter"
	"maps"
	"reflect"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// kept copies the lists of an Input that the caller may use again.
func kept(in Input) Input {
	in.Sources, in.Peers, in.Order = slices.Clone(in.Sources), slices.Clone(in.Peers), slices.Clone(in.Order)
	return in
}

// incremental makes the view of in of the one before by looking at the services
// that sources and peers have changed. It declines where something else has
// changed, or where summaries come in no order.
func incremental(prev *View, in Input) (*View, bool) {
	if prev == nil || !prev.ordered || in.Rules == nil || in.Import == nil || !alike(&prev.in, &in) {
		return nil, false
	}
	u := updater{prev: prev, in: in, touched: make(map[catalog.ServiceName]*touch)}
	for i := range in.Sources {
		u.source(i)
	}
	if !u.peers() {
		return nil, false
	}
	return u.view(), true
}

// alike reports whether two inputs differ in snapshots, summaries and leases
// only.
func alike(a, b *Input) bool {
	return a.Cluster == b.Cluster && a.Rules == b.Rules && slices.Equal(a.Order, b.Order) &&
		slices.EqualFunc(a.Sources, b.Sources, func(x, y Source) bool {
			return x.Name == y.Name && reflect.DeepEqual(x.Mapping, y.Mapping)
		}) &&
		slices.EqualFunc(a.Peers, b.Peers, func(x, y Peer) bool { return x.Cluster == y.Cluster })
}

// updater gathers what has changed.
type updater struct {
	prev    *View
	in      Input
	touched map[catalog.ServiceName]*touch
}

// touch is what may have changed of one service: which sources and peers have
// other values now, and those that are new or replaced.
type touch struct {
	name catalog.ServiceName
	was  *Service // in the view before; nil: it is new
	at   int      // where it is there, or would be

	sources map[int]bool
	own     []contribution // by sources, in their order
	peers   map[catalog.ClusterName]bool
	remote  []candidate
}

// touch finds the service in the view before: once, for such a search reads as many
// names as there are halves.
func (u *updater) touch(n catalog.ServiceName) *touch {
	t := u.touched[n]
	if t == nil {
		t = &touch{name: n}
		var found bool
		if t.at, found = u.prev.find(n); found {
			t.was = u.prev.services[t.at]
		}
		u.touched[n] = t
	}
	return t
}

func (t *touch) source(i int) {
	if t.sources == nil {
		t.sources = make(map[int]bool, 1)
	}
	t.sources[i] = true
}

func (t *touch) peer(c catalog.ClusterName) {
	if t.peers == nil {
		t.peers = make(map[catalog.ClusterName]bool, 1)
	}
	t.peers[c] = true
}

// source notes what source i has changed: for every service that it touches, all
// that it says of it.
func (u *updater) source(i int) {
	old, src := u.prev.in.Sources[i], u.in.Sources[i]
	if old.Snapshot == src.Snapshot {
		return
	}
	d := catalog.Diff(old.Snapshot, src.Snapshot)
	names := make(map[catalog.ServiceName]bool) // of the source's services
	note := func(n catalog.ServiceName) {
		if local, ok := src.Mapping.Apply(n); ok {
			u.touch(local).source(i)
			names[n] = true
		}
	}
	for _, s := range d.Upserts {
		note(s.Name)
	}
	for _, n := range d.Removes {
		note(n)
	}
	// Mappings may bring several services under one name: those that did not
	// change stay beside those that did.
	all := make(map[catalog.ServiceName][]catalog.ServiceName) // by local name
	for n := range names {
		local, _ := src.Mapping.Apply(n)
		all[local] = append(all[local], n)
	}
	for local, changed := range all {
		t := u.touch(local)
		if t.was != nil {
			for _, c := range t.was.own {
				if c.source == src.Name && !names[c.service.Name] {
					changed = append(changed, c.service.Name)
				}
			}
		}
		slices.SortFunc(changed, catalog.ServiceName.Compare)
		for _, n := range changed {
			if svc := src.Snapshot.Get(n); svc != nil {
				t.own = append(t.own, contribution{source: src.Name, service: svc})
			}
		}
	}
}

// peers notes what the peers have changed; false where that cannot be told.
func (u *updater) peers() bool {
	for _, at := range u.prev.order.seats {
		p, old := placed{Peer: u.in.Peers[at.index], ordered: at.ordered}, &u.prev.in.Peers[at.index]
		if sameList(old.Summaries, p.Summaries) && old.ControlLost == p.ControlLost {
			continue
		}
		if !u.peer(old, &p) {
			return false
		}
	}
	return true
}

func sameList(a, b []*catalog.Summary) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// ordered reports whether the summaries of each peer are by name, each name once.
func ordered(peers []Peer) bool {
	for i := range peers {
		list := peers[i].Summaries
		for j := 1; j < len(list); j++ {
			if list[j-1].Service.Compare(list[j].Service) >= 0 {
				return false
			}
		}
	}
	return true
}

// peer notes what one peer has changed; false where its summaries are in no
// order, and where it has several services under one name, which are ordered
// among each other. The old summaries are in order, so that of the new ones only
// the neighbours of those that came have to be compared.
func (u *updater) peer(old *Peer, p *placed) bool {
	a, b := old.Summaries, p.Summaries
	inPlace := func() bool { // b[0] among its neighbours
		i := len(p.Summaries) - len(b)
		return (i == 0 || p.Summaries[i-1].Service.Compare(b[0].Service) < 0) &&
			(len(b) == 1 || b[0].Service.Compare(b[1].Service) < 0)
	}
	renewed := old.ControlLost != p.ControlLost
	for len(a) > 0 || len(b) > 0 {
		var gone, come *catalog.Summary
		switch {
		case len(a) > 0 && len(b) > 0 && a[0] == b[0]:
			if renewed {
				come = b[0]
			}
			a, b = a[1:], b[1:]
		case len(b) == 0 || len(a) > 0 && a[0].Service.Compare(b[0].Service) < 0:
			gone, a = a[0], a[1:]
		case !inPlace():
			return false
		case len(a) == 0 || a[0].Service.Compare(b[0].Service) > 0:
			come, b = b[0], b[1:]
		default:
			come, a, b = b[0], a[1:], b[1:]
		}
		if gone != nil {
			if c, ok := p.take(u.in, gone); ok {
				t := u.touch(c.rule.As)
				if !t.alone(p.Cluster, c) {
					return false
				}
				t.peer(p.Cluster)
			}
		}
		if come != nil {
			if c, ok := p.take(u.in, come); ok {
				t := u.touch(c.rule.As)
				if !t.alone(p.Cluster, c) {
					return false
				}
				t.peer(p.Cluster)
				t.remote = append(t.remote, c)
			}
		}
	}
	return true
}

// alone reports whether no other service of the cluster is, or becomes, known
// under the candidate's name.
func (t *touch) alone(cluster catalog.ClusterName, c candidate) bool {
	if t.peers[cluster] {
		return false
	}
	return t.was == nil || !slices.ContainsFunc(t.was.remote, func(o candidate) bool {
		return o.cluster == cluster && o.summary.Service != c.summary.Service
	})
}

// view puts the touched services in place of those of the view before.
func (u *updater) view() *View {
	prev := u.prev
	next := &View{cluster: u.in.Cluster, in: kept(u.in), ordered: true, order: prev.order, conflict: prev.conflict}
	if len(u.touched) == 0 {
		next.services = prev.services
		return next
	}
	touched := slices.SortedFunc(maps.Values(u.touched), func(a, b *touch) int {
		return cmp.Or(cmp.Compare(a.at, b.at), a.name.Compare(b.name))
	})
	next.services = make([]*Service, 0, len(prev.services)+len(touched))
	done := 0
	for _, t := range touched {
		next.services = append(next.services, prev.services[done:t.at]...)
		done = t.at
		if t.was != nil {
			next.conflict -= len(t.was.Conflicts)
			done++
		}
		g := u.group(t, prev.order.seat)
		if len(g.own) == 0 && len(g.remote) == 0 {
			continue
		}
		s := again(t.was, prev.cluster == u.in.Cluster, u.in.Cluster, t.name, g)
		next.services = append(next.services, s)
		next.conflict += len(s.Conflicts)
	}
	next.services = append(next.services, prev.services[done:]...)
	return next
}

// group is that of the service of before with what t brings.
func (u *updater) group(t *touch, seat map[catalog.ClusterName]int) *group {
	g, old := new(group), t.was
	var own []contribution
	if old != nil {
		own = old.own
	}
	for i, src := range u.in.Sources {
		from := own
		if t.sources[i] {
			from = t.own
		}
		for _, c := range from {
			if c.source == src.Name {
				g.own = append(g.own, c)
			}
		}
	}
	if old != nil && len(t.peers) == 0 {
		g.remote = old.remote // which nobody changes
	} else if old != nil {
		n := len(t.remote)
		for i := range old.remote {
			if !t.peers[old.remote[i].cluster] {
				n++
			}
		}
		g.remote = make([]candidate, 0, n) // without room to spare: it stays
		for _, c := range old.remote {
			if !t.peers[c.cluster] {
				g.remote = append(g.remote, c)
			}
		}
	}
	if len(t.remote) > 0 {
		g.remote = append(g.remote, t.remote...)
		slices.SortStableFunc(g.remote, func(a, b candidate) int { return seat[a.cluster] - seat[b.cluster] })
	}
	return g
}

// Changes yields each service that differs between two views: as it was, nil for
// a new one, and as it is, nil for one that is gone. What the views share costs
// the comparison of two pointers.
func Changes(before, after *View) iter.Seq2[*Service, *Service] {
	return func(yield func(was, is *Service) bool) {
		for _, c := range ChangesAt(before, after) {
			if !yield(c.Was, c.Is) {
				return
			}
		}
	}
}

// Change is one that Changes yields.
type Change struct{ Was, Is *Service }

// ChangesAt is Changes with the place of each in before: where the service is, or
// where a new one would be. Who keeps a list beside the view need not search it.
func ChangesAt(before, after *View) iter.Seq2[int, Change] {
	return func(yield func(at int, c Change) bool) {
		var a, b []*Service
		if before != nil {
			a = before.services
		}
		if after != nil {
			b = after.services
		}
		for all := len(a); len(a) > 0 || len(b) > 0; {
			at := all - len(a)
			var c Change
			switch {
			case len(a) > 0 && len(b) > 0 && a[0] == b[0]:
				a, b = a[1:], b[1:]
				continue
			case len(b) == 0 || len(a) > 0 && a[0].Name.Compare(b[0].Name) < 0:
				c.Was, a = a[0], a[1:]
			case len(a) == 0 || a[0].Name.Compare(b[0].Name) > 0:
				c.Is, b = b[0], b[1:]
			default:
				c.Was, c.Is, a, b = a[0], b[0], a[1:], b[1:]
			}
			if !yield(at, c) {
				return
			}
		}
	}
}
