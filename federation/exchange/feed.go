package exchange

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/merge"
)

// State is what one peer is told.
type State struct {
	// Services are the summaries of what is exported to the peer, in any order.
	// Pointers that come again are taken as unchanged, and so is the slice: neither
	// is changed once it was given.
	Services []*catalog.Summary
	// Gateways are the own roster, in any order. It and Conflicts are not changed
	// once they were given: slices that come again are taken as unchanged.
	Gateways []catalog.Gateway
	// Bundle is the own trust domain's SPIFFE bundle document; nil where the peer
	// shares the trust domain.
	Bundle json.RawMessage
	// Conflicts are those that the peer is a party to.
	Conflicts []merge.Conflict
	// Labels are the own cluster's.
	Labels map[string]string
}

// maxMarks bounds the versions of a feed that a delta can start from: batches of
// some minutes at the pace of an exporter.
const maxMarks = 1024

// feed is what one peer is told, with enough history to tell what changed: a
// list of services, which it may share, and what is told to this peer alone. It
// is pure and for one goroutine at a time.
type feed struct {
	cluster catalog.ClusterName
	at      Position
	// floor is the oldest version that a delta can start from.
	floor uint64
	list  *list
	// own are the roster, the conflicts and the bundle, by key.
	own []*entry
	// marks say which version of the list was which of the feed; a version each.
	marks []mark
	// labels are said with every batch.
	labels map[string]string
}

type mark struct{ version, list uint64 }

func newFeed(cluster catalog.ClusterName, epoch uint64) *feed {
	return &feed{cluster: cluster, at: Position{Epoch: epoch}, list: newList()}
}

// set replaces the state and reports whether anything changed. On an error
// nothing has. The list is the feed's alone.
func (f *feed) set(s State, l Limits) (changed bool, err error) {
	c, err := f.list.prepare(s.Services, l)
	if err != nil {
		return false, err
	}
	singles, err := singleEntries(s, l)
	if err != nil {
		return false, err
	}
	own, err := f.prepareOwn(singles, c.totals, l)
	if err != nil {
		return false, err
	}
	relabelled := f.label(s.Labels)
	return f.advance(f.list.apply(c) || relabelled, own), nil
}

// label takes the own cluster's labels, and reports whether they are others.
func (f *feed) label(labels map[string]string) bool {
	changed := !maps.Equal(f.labels, labels)
	f.labels = labels
	return changed
}

// prepareOwn makes the entries of what is told to this peer alone, beside
// services of the given totals, of singles, which other peers may be told too;
// those with a version are unchanged.
func (f *feed) prepareOwn(singles []*entry, services totals, l Limits) ([]*entry, error) {
	next := make([]*entry, len(singles))
	for i, e := range singles {
		if old := f.entry(e.key); old != nil && old.hash == e.hash {
			next[i] = old
		} else {
			next[i] = new(*e) // whose version is this feed's
		}
		services.add(e.totals)
	}
	return next, services.check(l)
}

// entry is one of own; a nil feed has none.
func (f *feed) entry(key string) *entry {
	if f == nil {
		return nil
	}
	for _, e := range f.own {
		if e.key == key {
			return e
		}
	}
	return nil
}

// advance takes the entries of prepareOwn and begins a new version where they or
// the list have changed.
func (f *feed) advance(listChanged bool, own []*entry) bool {
	changed, kept := listChanged, 0
	for _, e := range own {
		changed = changed || e.changed == 0
		if f.entry(e.key) != nil {
			kept++
		}
	}
	vanished := kept < len(f.own) // there is no event for it
	f.own = own
	if f.at.Version > 0 && !changed && !vanished {
		return false
	}
	f.at.Version++
	for _, e := range own {
		if e.changed == 0 {
			e.changed = f.at.Version
		}
	}
	if vanished || f.at.Version == 1 {
		f.floor = f.at.Version
	}
	f.marks = append(f.marks, mark{f.at.Version, f.list.version})
	if len(f.marks) > 2*maxMarks {
		f.marks = slices.Clone(f.marks[len(f.marks)-maxMarks:])
	}
	return true
}

func (f *feed) digest() digest {
	d := f.list.digest
	for _, e := range f.own {
		d.toggle(e.hash)
	}
	return d
}

// singleEntries are the values of what a state says beside services, by key.
func singleEntries(s State, l Limits) ([]*entry, error) {
	if n := len(s.Gateways); n > l.Gateways {
		return nil, exceeds("gateways", n, l.Gateways)
	}
	if n := len(s.Conflicts); n > l.Conflicts {
		return nil, exceeds("conflicts", n, l.Conflicts)
	}
	for _, g := range s.Gateways {
		if err := g.Validate(); err != nil {
			return nil, fmt.Errorf("gateway %s: %w", g.Name, err)
		}
	}
	var out []*entry
	add := func(key string, v any) error {
		value, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if len(value) > l.Line/2 {
			return exceeds(key+": bytes", len(value), l.Line/2)
		}
		out = append(out, &entry{key: key, value: value, hash: hashItem(key, value), totals: totals{bytes: len(value)}})
		return nil
	}
	// The roster and the conflicts are always there, so that "none" can be said.
	roster, conflicts := sortedRoster(s.Gateways), s.Conflicts
	if roster == nil {
		roster = []catalog.Gateway{}
	}
	if conflicts == nil {
		conflicts = []merge.Conflict{}
	}
	if s.Bundle != nil {
		if err := add(bundleKey, s.Bundle); err != nil {
			return nil, err
		}
	}
	if err := add(conflictsKey, conflicts); err != nil {
		return nil, err
	}
	return out, add(rosterKey, roster)
}

// raise moves the epoch above one that the listener has seen and this feed does
// not know: older state was restored here. Everybody gets a full list.
func (f *feed) raise(seen uint64) {
	f.at.Epoch = seen + 1
	f.floor = f.at.Version
}

// knows reports whether the listener's position can be one of this feed's.
func (f *feed) knows(p Position) bool {
	return !f.at.Before(p)
}

// outgoing is one batch, ready to be written without the feed.
type outgoing struct {
	begin   Event
	removes []catalog.ServiceName
	own     []*entry // what this peer alone is told, by key
	entries []*entry // services, by key
	body    []byte   // their lines, where these are together
	sync    Event
	whole   []byte // all of it, where several are sent it
}

// since returns what a listener at p lacks: a delta where that can be told, else
// a full list.
func (f *feed) since(p Position, full bool) *outgoing {
	o := &outgoing{
		begin: Event{Type: Begin, Format: Format, Cluster: string(f.cluster), Epoch: f.at.Epoch, Version: f.at.Version, Labels: f.labels},
		sync:  Event{Type: Sync, Epoch: f.at.Epoch, Version: f.at.Version, Services: f.list.totals.services, Digest: f.digest().String()},
	}
	from := uint64(0)
	services, delta := (*said)(nil), false
	if at, ok := f.marked(p); ok && !full {
		services, delta = f.list.since(at, false)
	}
	if delta {
		from = p.Version
		o.begin.Delta, o.begin.Since = true, from
	} else {
		services, _ = f.list.since(0, true)
	}
	o.removes, o.entries, o.body = services.removes, services.entries, services.lines()
	for _, e := range f.own {
		if e.changed > from {
			o.own = append(o.own, e)
		}
	}
	return o
}

// marked returns the list's version of a position that a delta can start from.
func (f *feed) marked(p Position) (uint64, bool) {
	if p.Epoch != f.at.Epoch || p.Version < max(f.floor, 1) || p.Version > f.at.Version {
		return 0, false
	}
	i, found := slices.BinarySearchFunc(f.marks, p.Version, func(m mark, v uint64) int { return cmp.Compare(m.version, v) })
	if !found {
		return 0, false
	}
	return f.marks[i].list, true
}

// head yields the lines before those of services.
func (o *outgoing) head(yield func(*Event) bool) {
	if !yield(&o.begin) {
		return
	}
	for _, name := range o.removes {
		if !yield(&Event{Type: Remove, Name: name.String()}) {
			return
		}
	}
	for _, e := range o.own {
		if !yield(e.event()) {
			return
		}
	}
}

// event is that of an item which is told to one peer alone.
func (e *entry) event() *Event {
	switch e.key {
	case rosterKey:
		return &Event{Type: Roster, Gateways: e.value}
	case bundleKey:
		return &Event{Type: Bundle, Bundle: e.value}
	default:
		return &Event{Type: Conflicts, Conflicts: e.value}
	}
}

func (f *feed) heartbeat() *Event {
	return &Event{Type: Heartbeat, Epoch: f.at.Epoch, Version: f.at.Version, Digest: f.digest().String()}
}
