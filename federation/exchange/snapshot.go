package exchange

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/merge"
)

// Snapshot is what one peer said last, complete and checked: immutable.
type Snapshot struct {
	cluster  catalog.ClusterName
	position Position
	// services are by name; gateways as the roster has them.
	services  []*catalog.Summary
	gateways  []catalog.Gateway
	bundle    json.RawMessage
	conflicts []merge.Conflict

	items  map[string]item
	digest digest
	totals totals
}

// item is one value as it was sent, and what it counts towards the quotas.
type item struct {
	value json.RawMessage
	hash  digest
	// summary is nil for other things than services, and for a service of which
	// this version understands no port.
	summary *catalog.Summary
	totals  totals
}

// totals are what Limits bound over all items.
type totals struct{ services, rows, endpoints, bytes int }

func (t *totals) add(o totals) {
	t.services += o.services
	t.rows += o.rows
	t.endpoints += o.endpoints
	t.bytes += o.bytes
}

func (t *totals) remove(o totals) {
	t.add(totals{services: -o.services, rows: -o.rows, endpoints: -o.endpoints, bytes: -o.bytes})
}

// quotaUse is one total and its limit.
type quotaUse struct {
	what         string
	value, limit int
}

func (t *totals) quotas(l Limits) [4]quotaUse {
	return [...]quotaUse{
		{"services", t.services, l.Services},
		{"rows", t.rows, l.Rows},
		{"endpoints", t.endpoints, l.Endpoints},
		{"bytes", t.bytes, l.Bytes},
	}
}

func (t *totals) check(l Limits) error {
	for _, q := range t.quotas(l) {
		if q.value > q.limit {
			return exceeds(q.what, q.value, q.limit)
		}
	}
	return nil
}

// Cluster is the peer, by its configured name.
func (s *Snapshot) Cluster() catalog.ClusterName {
	if s == nil {
		return ""
	}
	return s.cluster
}

// Position is the peer's (epoch, version); zero for a nil Snapshot.
func (s *Snapshot) Position() Position {
	if s == nil {
		return Position{}
	}
	return s.position
}

// Services are the peer's summaries by name; not to be changed. Those that two
// snapshots have in common are the same pointers.
func (s *Snapshot) Services() []*catalog.Summary {
	if s == nil {
		return nil
	}
	return s.services
}

// Gateways are the peer's roster by name; not to be changed.
func (s *Snapshot) Gateways() []catalog.Gateway {
	if s == nil {
		return nil
	}
	return s.gateways
}

// Bundle is the SPIFFE bundle document that the peer sent, or nil.
func (s *Snapshot) Bundle() json.RawMessage {
	if s == nil {
		return nil
	}
	return s.bundle
}

// Conflicts are what the peer's merge found against what this cluster exports to
// it. They are text for operators: nothing is decided by them.
func (s *Snapshot) Conflicts() []merge.Conflict {
	if s == nil {
		return nil
	}
	return s.conflicts
}

// Digest is that of all items.
func (s *Snapshot) Digest() string {
	if s == nil {
		return digest{}.String()
	}
	return s.digest.String()
}

// with returns the snapshot after a batch.
func (s *Snapshot) with(b *batch) *Snapshot {
	next := &Snapshot{cluster: b.cluster, position: b.to}
	// The roster and the bundle are what reaches the peer at all: a list without
	// them, or an empty roster, replaces nothing. Gateways that are really gone
	// are found dead by the links.
	next.gateways, next.bundle = s.Gateways(), s.Bundle()
	if b.delta {
		next.items, next.digest, next.totals = maps.Clone(s.items), s.digest, s.totals
		next.conflicts = s.conflicts
	} else {
		next.items = make(map[string]item, len(b.puts))
	}
	drop := func(key string) {
		if old, ok := next.items[key]; ok {
			next.digest.toggle(old.hash)
			next.totals.remove(old.totals)
			delete(next.items, key)
		}
	}
	for key := range b.removes {
		drop(key)
	}
	for key, it := range b.puts {
		// An unchanged value keeps its summary: a full list of what is known
		// leaves everything that is derived from it as it is.
		if old, ok := s.item(key); ok && old.hash == it.hash {
			it = old
		}
		drop(key)
		next.items[key] = it
		next.digest.toggle(it.hash)
		next.totals.add(it.totals)
	}
	if len(b.gateways) > 0 {
		next.gateways = b.gateways
	}
	if b.bundle != nil {
		next.bundle = b.bundle
	}
	if _, said := b.puts[conflictsKey]; said {
		next.conflicts = b.conflicts
	}
	for _, it := range next.items {
		if it.summary != nil {
			next.services = append(next.services, it.summary)
		}
	}
	slices.SortFunc(next.services, func(a, b *catalog.Summary) int { return a.Service.Compare(b.Service) })
	return next
}

func (s *Snapshot) item(key string) (item, bool) {
	if s == nil {
		return item{}, false
	}
	it, ok := s.items[key]
	return it, ok
}

// lines are the batch that makes the snapshot, in a fixed order: the form in
// which it is kept on disk. Values are written as they came, byte for byte, for
// the digest is over those.
func (s *Snapshot) lines() ([]byte, error) {
	var b bytes.Buffer
	write := func(e Event) error {
		line, err := json.Marshal(e)
		b.Write(append(line, '\n'))
		return err
	}
	if err := write(Event{Type: Begin, Format: Format, Cluster: string(s.cluster), Epoch: s.position.Epoch, Version: s.position.Version}); err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(s.items)) {
		kind, field := Service, "service"
		switch key {
		case rosterKey:
			kind, field = Roster, "gateways"
		case bundleKey:
			kind, field = Bundle, "bundle"
		case conflictsKey:
			kind, field = Conflicts, "conflicts"
		}
		fmt.Fprintf(&b, "{%q:%q,%q:%s}\n", "type", kind, field, s.items[key].value)
	}
	err := write(Event{
		Type: Sync, Epoch: s.position.Epoch, Version: s.position.Version,
		Services: s.totals.services, Digest: s.digest.String(),
	})
	return b.Bytes(), err
}
