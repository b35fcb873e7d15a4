package merge

import (
	"iter"
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
	peers := inOrder(in)
	if !u.peers(peers) {
		return nil, false
	}
	return u.view(peers), true
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
	sources map[int]bool
	own     []contribution // by sources, in their order
	peers   map[catalog.ClusterName]bool
	remote  []candidate
}

func (u *updater) touch(n catalog.ServiceName) *touch {
	t := u.touched[n]
	if t == nil {
		t = &touch{sources: make(map[int]bool), peers: make(map[catalog.ClusterName]bool)}
		u.touched[n] = t
	}
	return t
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
			u.touch(local).sources[i] = true
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
		if s := u.prev.Get(local); s != nil {
			for _, c := range s.own {
				if c.source == src.Name && !names[c.service.Name] {
					changed = append(changed, c.service.Name)
				}
			}
		}
		slices.SortFunc(changed, catalog.ServiceName.Compare)
		t := u.touch(local)
		for _, n := range changed {
			if svc := src.Snapshot.Get(n); svc != nil {
				t.own = append(t.own, contribution{source: src.Name, service: svc})
			}
		}
	}
}

// peers notes what the peers have changed; false where that cannot be told.
func (u *updater) peers(peers []placed) bool {
	before := make(map[catalog.ClusterName]*Peer, len(u.prev.in.Peers))
	for i := range u.prev.in.Peers {
		p := &u.prev.in.Peers[i]
		if before[p.Cluster] == nil {
			before[p.Cluster] = p
		}
	}
	for i := range peers {
		p, old := &peers[i], before[peers[i].Cluster]
		if same := sameList(old.Summaries, p.Summaries); same && old.ControlLost == p.ControlLost {
			continue
		}
		if !u.peer(old, p) {
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
			if c, ok := p.take(u.in, gone); ok && !u.alone(p.Cluster, c) {
				return false
			} else if ok {
				u.touch(c.rule.As).peers[p.Cluster] = true
			}
		}
		if come != nil {
			if c, ok := p.take(u.in, come); ok && !u.alone(p.Cluster, c) {
				return false
			} else if ok {
				t := u.touch(c.rule.As)
				t.peers[p.Cluster] = true
				t.remote = append(t.remote, c)
			}
		}
	}
	return true
}

// alone reports whether no other service of the cluster is, or becomes, known
// under the candidate's name.
func (u *updater) alone(cluster catalog.ClusterName, c candidate) bool {
	if t := u.touched[c.rule.As]; t != nil && t.peers[cluster] {
		return false
	}
	s := u.prev.Get(c.rule.As)
	if s == nil {
		return true
	}
	return !slices.ContainsFunc(s.remote, func(o candidate) bool {
		return o.cluster == cluster && o.summary.Service != c.summary.Service
	})
}

// view puts the touched services in place of those of the view before.
func (u *updater) view(peers []placed) *View {
	next := &View{cluster: u.in.Cluster, in: kept(u.in), ordered: true, conflict: u.prev.conflict}
	if len(u.touched) == 0 {
		next.services = u.prev.services
		return next
	}
	place := make(map[catalog.ClusterName]int, len(peers))
	for i := range peers {
		place[peers[i].Cluster] = i
	}
	names := make([]catalog.ServiceName, 0, len(u.touched))
	for n := range u.touched {
		names = append(names, n)
	}
	slices.SortFunc(names, catalog.ServiceName.Compare)
	next.services = make([]*Service, 0, len(u.prev.services)+len(names))
	rest := u.prev.services
	for _, n := range names {
		i, found := slices.BinarySearchFunc(rest, n, func(s *Service, n catalog.ServiceName) int { return s.Name.Compare(n) })
		next.services = append(next.services, rest[:i]...)
		var old *Service
		if found {
			old = rest[i]
			next.conflict -= len(old.Conflicts)
			i++
		}
		rest = rest[i:]
		g := u.group(old, u.touched[n], place)
		if len(g.own) == 0 && len(g.remote) == 0 {
			continue
		}
		s := u.prev.again(u.in.Cluster, n, g)
		next.services = append(next.services, s)
		next.conflict += len(s.Conflicts)
	}
	next.services = append(next.services, rest...)
	return next
}

// group is the old service's group with what t brings.
func (u *updater) group(old *Service, t *touch, place map[catalog.ClusterName]int) *group {
	g := new(group)
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
	if old != nil {
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
		slices.SortStableFunc(g.remote, func(a, b candidate) int { return place[a.cluster] - place[b.cluster] })
	}
	return g
}

// Changes yields each service that differs between two views: as it was, nil for
// a new one, and as it is, nil for one that is gone. What the views share costs
// the comparison of two pointers.
func Changes(before, after *View) iter.Seq2[*Service, *Service] {
	return func(yield func(was, is *Service) bool) {
		var a, b []*Service
		if before != nil {
			a = before.services
		}
		if after != nil {
			b = after.services
		}
		for len(a) > 0 || len(b) > 0 {
			var was, is *Service
			switch {
			case len(a) > 0 && len(b) > 0 && a[0] == b[0]:
				a, b = a[1:], b[1:]
				continue
			case len(b) == 0 || len(a) > 0 && a[0].Name.Compare(b[0].Name) < 0:
				was, a = a[0], a[1:]
			case len(a) == 0 || a[0].Name.Compare(b[0].Name) > 0:
				is, b = b[0], b[1:]
			default:
				was, is, a, b = a[0], b[0], a[1:], b[1:]
			}
			if !yield(was, is) {
				return
			}
		}
	}
}
