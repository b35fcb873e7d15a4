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
	// Pointers that come again are taken as unchanged.
	Services []*catalog.Summary
	// Gateways are the own roster, in any order.
	Gateways []catalog.Gateway
	// Bundle is the own trust domain's SPIFFE bundle document; nil where the peer
	// shares the trust domain.
	Bundle json.RawMessage
	// Conflicts are those that the peer is a party to.
	Conflicts []merge.Conflict
}

// maxTombs bounds how many removals a feed remembers; a listener that missed
// more gets a full list.
const maxTombs = 4096

// feed is what one peer is told, with enough history to tell what changed. It is
// pure and for one goroutine at a time.
type feed struct {
	cluster catalog.ClusterName
	at      Position
	// floor is the oldest version that a delta can start from.
	floor   uint64
	entries map[string]*entry
	tombs   []tomb
	digest  digest
	totals  totals
}

// entry is one item and the version of its last change.
type entry struct {
	key     string
	source  *catalog.Summary // nil for other things than services
	value   json.RawMessage  // nil for services, which are written from source
	hash    digest
	changed uint64
	totals  totals
}

// tomb is a removed service.
type tomb struct {
	name    string
	version uint64
}

func newFeed(cluster catalog.ClusterName, epoch uint64) *feed {
	return &feed{cluster: cluster, at: Position{Epoch: epoch}, entries: make(map[string]*entry)}
}

// set replaces the state and reports whether anything changed. On an error
// nothing has.
func (f *feed) set(s State, l Limits) (changed bool, err error) {
	next, err := f.prepare(s, l)
	if err != nil {
		return false, err
	}
	var removed []string
	vanished := false
	for key, old := range f.entries {
		if next[key] != nil {
			continue
		}
		if old.source == nil {
			vanished = true // there is no event for it
			continue
		}
		removed = append(removed, old.source.Service.String())
	}
	for _, e := range next {
		changed = changed || e.changed == 0
	}
	if f.at.Version > 0 && !changed && !vanished && len(removed) == 0 {
		f.entries = next // the same values, perhaps by other pointers
		return false, nil
	}
	f.at.Version++
	f.entries, f.digest, f.totals = next, digest{}, totals{}
	for _, e := range next {
		if e.changed == 0 {
			e.changed = f.at.Version
		}
		f.digest.toggle(e.hash)
		f.totals.add(e.totals)
	}
	if vanished || f.at.Version == 1 {
		f.floor = f.at.Version
	}
	slices.Sort(removed)
	for _, name := range removed {
		f.tombs = append(f.tombs, tomb{name: name, version: f.at.Version})
	}
	if over := len(f.tombs) - maxTombs; over > 0 {
		f.floor = max(f.floor, f.tombs[over-1].version)
		f.tombs = slices.Delete(f.tombs, 0, over)
	}
	return true, nil
}

// prepare makes the entries of s; those with a version are unchanged. Entries
// are never changed once a version has given them out.
func (f *feed) prepare(s State, l Limits) (map[string]*entry, error) {
	next := make(map[string]*entry, len(s.Services)+3)
	var sum totals
	enter := func(e *entry) error {
		if len(e.value) > l.Line/2 {
			return exceeds(e.key+": bytes", len(e.value), l.Line/2)
		}
		if next[e.key] != nil {
			return fmt.Errorf("%s: is given twice", e.key)
		}
		if old := f.entries[e.key]; old != nil && old.hash == e.hash {
			e.changed = old.changed // watchers read entries: old itself stays as it is
		}
		next[e.key] = e
		sum.add(e.totals)
		return nil
	}
	for _, summary := range s.Services {
		key := serviceKey(summary.Service)
		if old := f.entries[key]; old != nil && old.source == summary && next[key] == nil {
			next[key] = old
			sum.add(old.totals)
			continue
		}
		e, err := serviceEntry(key, summary, l)
		if err != nil {
			return nil, err
		}
		if err := enter(e); err != nil {
			return nil, err
		}
	}
	singles, err := singleEntries(s, l)
	if err != nil {
		return nil, err
	}
	for _, e := range singles {
		if err := enter(e); err != nil {
			return nil, err
		}
	}
	if err := sum.check(l); err != nil {
		return nil, err
	}
	return next, nil
}

func serviceEntry(key string, s *catalog.Summary, l Limits) (*entry, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("service %s: %w", s.Service, err)
	}
	value, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", s.Service, err)
	}
	if len(value) > l.Line/2 {
		return nil, exceeds(key+": bytes", len(value), l.Line/2)
	}
	t := totals{services: 1, rows: len(s.Rows), bytes: len(value)}
	for _, r := range s.Rows {
		t.endpoints += int(r.Total)
	}
	return &entry{key: key, source: s, hash: hashItem(key, value), totals: t}, nil
}

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
	if err := add(rosterKey, roster); err != nil {
		return nil, err
	}
	if err := add(conflictsKey, conflicts); err != nil {
		return nil, err
	}
	if s.Bundle != nil {
		if err := add(bundleKey, s.Bundle); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// raise moves the epoch above one that the listener has seen and this feed does
// not know: older state was restored here. Everybody gets a full list.
func (f *feed) raise(seen uint64) {
	f.at.Epoch = seen + 1
	f.floor = f.at.Version
	f.tombs = nil
}

// knows reports whether the listener's position can be one of this feed's.
func (f *feed) knows(p Position) bool {
	return !f.at.Before(p)
}

// outgoing is one batch, ready to be written without the feed.
type outgoing struct {
	begin   Event
	removes []string
	entries []*entry
	sync    Event
}

// since returns what a listener at p lacks: a delta where that can be told, else
// a full list.
func (f *feed) since(p Position, full bool) *outgoing {
	o := &outgoing{
		begin: Event{Type: Begin, Format: Format, Cluster: string(f.cluster), Epoch: f.at.Epoch, Version: f.at.Version},
		sync:  Event{Type: Sync, Epoch: f.at.Epoch, Version: f.at.Version, Services: f.totals.services, Digest: f.digest.String()},
	}
	from := uint64(0)
	if !full && p.Epoch == f.at.Epoch && p.Version >= f.floor && p.Version > 0 && p.Version <= f.at.Version {
		from = p.Version
		o.begin.Delta, o.begin.Since = true, from
		gone := make(map[string]bool)
		for _, t := range f.tombs {
			if t.version > from {
				gone[t.name] = true
			}
		}
		for _, name := range slices.Sorted(maps.Keys(gone)) {
			if f.entries["service/"+name] == nil {
				o.removes = append(o.removes, name)
			}
		}
	}
	for _, e := range f.entries {
		if e.changed > from {
			o.entries = append(o.entries, e)
		}
	}
	slices.SortFunc(o.entries, func(a, b *entry) int { return cmp.Compare(a.key, b.key) })
	return o
}

// events yields the batch line by line.
func (o *outgoing) events(yield func(*Event) bool) {
	if !yield(&o.begin) {
		return
	}
	for _, name := range o.removes {
		if !yield(&Event{Type: Remove, Name: name}) {
			return
		}
	}
	for _, e := range o.entries {
		if !yield(e.event()) {
			return
		}
	}
	yield(&o.sync)
}

func (e *entry) event() *Event {
	switch e.key {
	case rosterKey:
		return &Event{Type: Roster, Gateways: e.value}
	case bundleKey:
		return &Event{Type: Bundle, Bundle: e.value}
	case conflictsKey:
		return &Event{Type: Conflicts, Conflicts: e.value}
	}
	value, err := json.Marshal(e.source)
	if err != nil {
		value = nil // it was marshalled when it was set; the digest would tell
	}
	return &Event{Type: Service, Service: value}
}

func (f *feed) heartbeat() *Event {
	return &Event{Type: Heartbeat, Epoch: f.at.Epoch, Version: f.at.Version, Digest: f.digest.String()}
}
