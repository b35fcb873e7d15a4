package tables

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/merge"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// Exports keeps the summaries that peers are told, one list for all peers that
// are offered the same: a change of one service costs its own summary, however
// many peers there are. The zero value is ready. It is for one goroutine at a
// time.
type Exports struct {
	summarizer Summarizer
	view       *merge.View
	readiness  *Readiness
	index      *policy.Index
	lists      map[string]*exportList // by policy.Index.ExportSet
}

type exportList struct {
	peer catalog.ClusterName // one of those that are told it
	list []*catalog.Summary
}

// Update takes what summaries are made of. Lists that do not change stay the
// same slices.
func (x *Exports) Update(v *merge.View, r *Readiness, ix *policy.Index) {
	x.summarizer.sweep(v)
	if x.index != ix || x.lists == nil {
		x.lists = make(map[string]*exportList)
	} else {
		changed := x.changed(v, r)
		for _, l := range x.lists {
			x.edit(l, changed, v, r)
		}
	}
	x.view, x.readiness, x.index = v, r, ix
}

// For returns the summaries for a peer, by name: the same slice for all peers of
// one export set, and the same as before where nothing has changed. It is not to
// be changed.
func (x *Exports) For(peer catalog.ClusterName) []*catalog.Summary {
	set := x.index.ExportSet(peer)
	l := x.lists[set]
	if l == nil {
		l = &exportList{peer: peer, list: x.summarizer.Summaries(x.view, x.readiness, x.index, peer)}
		x.lists[set] = l
	}
	return l.list
}

// changed are the services whose summaries may differ, by name.
func (x *Exports) changed(v *merge.View, r *Readiness) []catalog.ServiceName {
	var names []catalog.ServiceName
	for was, is := range merge.Changes(x.view, v) {
		switch {
		case was == nil:
			names = append(names, is.Name)
		case is == nil || was.Local != is.Local: // what peers offer is told to nobody
			names = append(names, was.Name)
		}
	}
	if x.readiness != r {
		names = append(names, r.differs(x.readiness)...)
	}
	slices.SortFunc(names, catalog.ServiceName.Compare)
	return slices.Compact(names)
}

// edit puts the summaries of the changed services in place, in a new slice if any
// differs.
func (x *Exports) edit(l *exportList, changed []catalog.ServiceName, v *merge.View, r *Readiness) {
	var next []*catalog.Summary
	rest := l.list
	for _, n := range changed {
		i, found := slices.BinarySearchFunc(rest, n, func(s *catalog.Summary, n catalog.ServiceName) int { return s.Service.Compare(n) })
		var was, is *catalog.Summary
		if found {
			was = rest[i]
		}
		if s := v.Get(n); s != nil {
			is = x.summarizer.one(s, r, x.index, l.peer)
		}
		if was == is {
			continue
		}
		if next == nil {
			next = make([]*catalog.Summary, 0, len(l.list)+len(changed))
		}
		next = append(next, rest[:i]...)
		if is != nil {
			next = append(next, is)
		}
		if found {
			i++
		}
		rest = rest[i:]
	}
	if next != nil {
		l.list = append(next, rest...)
	}
}
