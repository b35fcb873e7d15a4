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
	labels    map[string]string

	rows   []*item         // services, by name; shared by snapshots
	own    map[string]item // the roster, the bundle and the conflicts, by key
	digest digest
	totals totals
}

// item is one value as it was sent, and what it counts towards the quotas.
//
// There is one for each summary of each peer, so that its size counts: 64 bytes.
type item struct {
	// summary is nil for other things than services, and for a service of which
	// this version understands no port.
	summary *catalog.Summary
	// raw is nil where the summary is written as exactly the bytes that came.
	raw  *raw
	hash digest
	// bytes and rows are below what a line holds; endpoints are a sum.
	bytes, rows uint32
	endpoints   int
}

// raw is a value as it came.
type raw struct {
	// name is a service's; zero of other things.
	name  catalog.ServiceName
	value json.RawMessage
}

// name is a service's; zero of other things.
func (it *item) name() catalog.ServiceName {
	if it.summary != nil {
		return it.summary.Service
	}
	return it.raw.name
}

// value is what came, byte for byte.
func (it *item) value() (json.RawMessage, error) {
	if it.raw != nil {
		return it.raw.value, nil
	}
	return encodeSummary(it.summary)
}

func (it *item) totals() totals {
	t := totals{rows: int(it.rows), endpoints: it.endpoints, bytes: int(it.bytes)}
	if !it.name().IsZero() {
		t.services = 1
	}
	return t
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

// Labels are what the peer says of itself; not to be changed.
func (s *Snapshot) Labels() map[string]string {
	if s == nil {
		return nil
	}
	return s.labels
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

// with returns the snapshot after a batch. It costs the batch, and the copy of a
// list of pointers.
func (s *Snapshot) with(b *batch) *Snapshot {
	next := &Snapshot{cluster: b.cluster, position: b.to, labels: b.labels}
	// The roster and the bundle are what reaches the peer at all: a list without
	// them, or an empty roster, replaces nothing. Gateways that are really gone
	// are found dead by the links.
	next.gateways, next.bundle = s.Gateways(), s.Bundle()
	var rows []*item
	var own map[string]item
	if s != nil {
		rows, own = s.rows, s.own
	}
	if b.delta {
		next.digest, next.totals, next.conflicts = s.digest, s.totals, s.conflicts
	}
	switch {
	case !b.delta:
		next.own = make(map[string]item, len(own))
	case b.singles > 0:
		next.own = maps.Clone(own)
	default:
		next.own = own // which nothing changes
	}
	puts := make([]*item, 0, len(b.puts))
	for key, it := range b.puts {
		if it.name().IsZero() {
			if old, ok := next.own[key]; ok {
				next.leave(old)
			}
			next.own[key] = it
			next.enter(it)
			continue
		}
		puts = append(puts, &it)
	}
	slices.SortFunc(puts, func(a, b *item) int { return a.name().Compare(b.name()) })
	next.takeRows(rows, puts, b)
	if b.delta && len(b.removes) == 0 {
		next.takeServices(s, puts)
	} else {
		next.takeServices(nil, nil)
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
	return next
}

func (s *Snapshot) enter(it item) {
	s.digest.toggle(it.hash)
	s.totals.add(it.totals())
}

func (s *Snapshot) leave(it item) {
	s.digest.toggle(it.hash)
	s.totals.remove(it.totals())
}

// takeRows makes the rows of those before and of the puts, sorted, of a batch:
// all that stays of a delta, or nothing but the puts. An unchanged value keeps its
// row: a full list of what is known leaves everything that is derived from it as
// it is.
func (s *Snapshot) takeRows(before, puts []*item, b *batch) {
	s.rows = make([]*item, 0, len(before)+len(puts))
	for _, put := range puts {
		i, found := slices.BinarySearchFunc(before, put.name(), func(r *item, n catalog.ServiceName) int { return r.name().Compare(n) })
		s.stay(before[:i], b)
		if before = before[i:]; found {
			old := before[0]
			before = before[1:]
			if b.delta {
				s.leave(*old)
			}
			if old.hash == put.hash {
				put = old
			}
		}
		s.enter(*put)
		s.rows = append(s.rows, put)
	}
	s.stay(before, b)
}

// takeServices makes the list of summaries from that of the snapshot before: a
// value that came anew in the place of one of its name is put into a copy.
func (s *Snapshot) takeServices(before *Snapshot, puts []*item) {
	if before != nil && len(s.rows) == len(before.rows) && len(before.services) == len(before.rows) {
		s.services = slices.Clone(before.services)
		for _, put := range puts {
			i, found := slices.BinarySearchFunc(s.rows, put.name(), func(r *item, n catalog.ServiceName) int { return r.name().Compare(n) })
			if !found || before.rows[i].name() != put.name() || s.rows[i].summary == nil {
				s.services = nil
				break
			}
			s.services[i] = s.rows[i].summary
		}
		if s.services != nil {
			return
		}
	}
	s.services = make([]*catalog.Summary, 0, len(s.rows))
	for _, r := range s.rows {
		if r.summary != nil {
			s.services = append(s.services, r.summary)
		}
	}
}

// stay keeps what a batch does not put: of a delta all but what it removes.
func (s *Snapshot) stay(rows []*item, b *batch) {
	switch {
	case !b.delta:
	case len(b.removes) == 0:
		s.rows = append(s.rows, rows...)
	default:
		for _, r := range rows {
			if b.removes[serviceKey(r.name())] {
				s.leave(*r)
			} else {
				s.rows = append(s.rows, r)
			}
		}
	}
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
	if err := write(Event{Type: Begin, Format: Format, Cluster: string(s.cluster), Epoch: s.position.Epoch, Version: s.position.Version, Labels: s.labels}); err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(s.own)) {
		kind, field := Conflicts, "conflicts"
		switch key {
		case rosterKey:
			kind, field = Roster, "gateways"
		case bundleKey:
			kind, field = Bundle, "bundle"
		}
		fmt.Fprintf(&b, "{%q:%q,%q:%s}\n", "type", kind, field, s.own[key].raw.value)
	}
	for _, r := range s.rows {
		value, err := r.value()
		if err != nil {
			return nil, err
		}
		b.WriteString(`{"type":"` + string(Service) + `","service":`)
		b.Write(value)
		b.WriteString("}\n")
	}
	err := write(Event{
		Type: Sync, Epoch: s.position.Epoch, Version: s.position.Version,
		Services: s.totals.services, Digest: s.digest.String(),
	})
	return b.Bytes(), err
}
