package tables

import (
	"bytes"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/merge"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// Builder makes one table after the other and works out anew what has changed.
// The zero value is ready. It is for one goroutine at a time.
type Builder struct {
	view  *merge.View
	index *policy.Index
	names []catalog.ClusterName
	last  *route.Edition // of the last Next
	// same are the lists of peers that services are exported to: mostly one.
	same map[string][]catalog.ClusterName
}

// Next returns what Build(in) returns, or the table before where that says the
// same in the same epoch. Rows of services that did not change are those of the
// table before.
func (b *Builder) Next(in Input) *route.Edition {
	if b.same == nil || b.index != in.Policy {
		b.same = make(map[string][]catalog.ClusterName)
	}
	t := head(in)
	if b.last != nil && slices.EqualFunc(b.last.Head().Peers, t.Peers, samePeer) {
		t.Peers = b.last.Head().Peers // so that nobody has to compare them again
	}
	names := make([]catalog.ClusterName, len(t.Peers))
	for i := range t.Peers {
		names[i] = t.Peers[i].Name
	}
	old, changed := b.last, false
	var rows []*route.Service
	aligned := old != nil && b.index == in.Policy && slices.Equal(b.names, names) && len(old.Rows()) == b.view.Len()
	if aligned {
		rows, changed = b.edit(in, names)
	} else {
		rows = make([]*route.Service, 0, in.View.Len())
		for s := range in.View.All() {
			if row := b.row(in.Policy, names, nil, s, nil); row != nil {
				rows = append(rows, row)
			}
		}
		changed = old == nil || !slices.EqualFunc(old.Rows(), rows, sameRow)
	}
	changed = changed || !sameHead(old.Head(), t)
	b.view, b.index, b.names = in.View, in.Policy, names
	if changed || old.Head().Epoch != t.Epoch {
		b.last = route.NewEdition(*t, rows)
	}
	return b.last
}

// edit returns the rows of the table before, with those of changed services in
// their places, and reports whether any row differs. Both have a row for each
// service of their views, which is where the service is.
func (b *Builder) edit(in Input, names []catalog.ClusterName) (rows []*route.Service, changed bool) {
	all, done := b.last.Rows(), 0
	for at, c := range merge.ChangesAt(b.view, in.View) {
		var old, row *route.Service
		if c.Was != nil {
			old = all[at]
		}
		if c.Is != nil {
			row = b.row(in.Policy, names, c.Was, c.Is, old)
		}
		if old == row || old != nil && row != nil && sameRow(old, row) {
			continue // it goes on with the next that differs
		}
		changed = true
		if rows == nil {
			rows = make([]*route.Service, 0, in.View.Len())
		}
		rows = append(rows, all[done:at]...)
		if done = at; row != nil {
			rows = append(rows, row)
		}
		if old != nil {
			done++
		}
	}
	if !changed {
		return all, false
	}
	return append(rows, all[done:]...), true
}

// row is the row of a service, nil for none; old is its row by the same policy and
// peers, made of was, nil where there is none of those. Its list of peers is shared,
// and so is what follows from lists that was has, too.
func (b *Builder) row(ix *policy.Index, names []catalog.ClusterName, was, s *merge.Service, old *route.Service) *route.Service {
	row := new(route.Service)
	if old != nil && old.Name == s.Name && len(old.ExportedTo) > 0 {
		row.ExportedTo = old.ExportedTo // which follows from those alone, for what is here
	}
	if old != nil && was != nil && len(s.Offers) > 0 && sharesList(was.Offers, s.Offers) {
		row.Remote = old.Remote
	}
	if !service(row, ix, names, s) {
		return nil
	}
	if len(row.ExportedTo) == 0 || old != nil && sharesList(row.ExportedTo, old.ExportedTo) {
		return row
	}
	var key strings.Builder
	for _, n := range row.ExportedTo {
		key.WriteString(string(n))
		key.WriteByte(' ')
	}
	if have := b.same[key.String()]; have != nil {
		row.ExportedTo = have
	} else {
		b.same[key.String()] = row.ExportedTo
	}
	return row
}

func sharesList[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

func sameRow(a, b *route.Service) bool {
	return a.Name == b.Name && slices.Equal(a.Ports, b.Ports) && catalog.EqualEndpoints(a.Endpoints, b.Endpoints) &&
		slices.Equal(a.Quarantined, b.Quarantined) && slices.Equal(a.ExportedTo, b.ExportedTo) &&
		slices.Equal(a.SubsetLabels, b.SubsetLabels) &&
		(sharesList(a.Remote, b.Remote) || slices.EqualFunc(a.Remote, b.Remote, sameRemote)) && (a.Traffic == b.Traffic || reflect.DeepEqual(a.Traffic, b.Traffic))
}

func sameRemote(a, b route.Remote) bool {
	return a.Cluster == b.Cluster && a.Name == b.Name && slices.Equal(a.Ports, b.Ports) && slices.Equal(a.Rows, b.Rows)
}

// sameHead compares everything but services and position.
func sameHead(a, b *route.Table) bool {
	return a != nil && a.Format == b.Format && a.Cluster.Equal(b.Cluster) && a.Federation == b.Federation && a.Joining == b.Joining && a.Gateways == b.Gateways && a.Drill == b.Drill &&
		a.Tariff.Equal(b.Tariff) &&
		(sharesList(a.Peers, b.Peers) || slices.EqualFunc(a.Peers, b.Peers, samePeer)) && sameIntentions(a.Intentions, b.Intentions)
}

func samePeer(a, b route.Peer) bool {
	return a.Name == b.Name && a.Locality == b.Locality && a.ID == b.ID &&
		(sharesList(a.Gateways, b.Gateways) || slices.EqualFunc(a.Gateways, b.Gateways, catalog.Gateway.Equal)) &&
		bytes.Equal(a.Bundle, b.Bundle) && maps.Equal(a.Labels, b.Labels) && slices.Equal(a.Asserts, b.Asserts) && a.MaxPriority == b.MaxPriority && a.ControlLost == b.ControlLost && a.HeardAt.Equal(b.HeardAt)
}

func sameIntentions(a, b []policy.Intention) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || reflect.DeepEqual(a, b))
}
