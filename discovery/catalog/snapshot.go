package catalog

import (
	"cmp"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
)

// Snapshot is everything that one source knows at one moment: immutable,
// validated, ordered by service name. Snapshots that follow each other share
// the services that did not change, so that a change costs the changed services
// and those that stand in one block with them. A nil Snapshot is an empty one
// without a source.
type Snapshot struct {
	source    string
	blocks    blocks
	count     int
	endpoints int
}

// NewSnapshot validates, orders and takes over the services: the caller changes
// nothing of them afterwards. source is a DNS label. The error joins every
// problem as a FieldError with the service's name in its path.
func NewSnapshot(source string, services []*Service) (*Snapshot, error) {
	var p problems
	p.check("source", source, checkLabel(source))
	adopted := adopt(&p, services)
	s := &Snapshot{source: source, count: len(adopted)}
	for _, svc := range adopted {
		s.endpoints += len(svc.Endpoints)
	}
	s.blocks.add(adopted)
	s.check(&p)
	if err := p.err(); err != nil {
		return nil, fmt.Errorf("snapshot of source %q: %w", source, err)
	}
	return s, nil
}

// adopt validates and orders services that enter a snapshot. Services that are
// in a snapshot already are in order, thus only read.
func adopt(p *problems, services []*Service) []*Service {
	if len(services) > MaxServices {
		p.add("services", len(services), fmt.Sprintf("a snapshot has at most %d services", MaxServices))
		return nil
	}
	sorted := make([]*Service, 0, len(services))
	for i, svc := range services {
		if svc == nil {
			p.add(fmt.Sprintf("services[%d]", i), "", "is missing")
			continue
		}
		var q problems
		if svc.validate(&q); len(q.errs) > 0 {
			p.within(fmt.Sprintf("services[%s]", svc.Name), &q)
			continue
		}
		svc.order()
		sorted = append(sorted, svc)
	}
	slices.SortStableFunc(sorted, compareServices)
	for i := 1; i < len(sorted); i++ {
		if sorted[i].Name == sorted[i-1].Name {
			p.add(fmt.Sprintf("services[%s]", sorted[i].Name), "", "is given twice")
		}
	}
	return sorted
}

// check applies the bounds of the whole.
func (s *Snapshot) check(p *problems) {
	if s.endpoints > MaxEndpoints {
		p.add("services", s.endpoints, fmt.Sprintf("a snapshot has at most %d endpoints", MaxEndpoints))
	}
	if s.count > MaxServices {
		p.add("services", s.count, fmt.Sprintf("a snapshot has at most %d services", MaxServices))
	}
}

func compareServices(a, b *Service) int { return a.Name.Compare(b.Name) }

func (s *Service) order() {
	byName := func(a, b Port) int { return cmp.Compare(a.Name, b.Name) }
	if !slices.IsSortedFunc(s.Ports, byName) {
		slices.SortFunc(s.Ports, byName)
	}
	if !slices.IsSortedFunc(s.Endpoints, Endpoint.Compare) {
		slices.SortFunc(s.Endpoints, Endpoint.Compare)
	}
}

// Source names where the snapshot was read.
func (s *Snapshot) Source() string {
	if s == nil {
		return ""
	}
	return s.source
}

// Len is the number of services.
func (s *Snapshot) Len() int {
	if s == nil {
		return 0
	}
	return s.count
}

// EndpointCount is the number of endpoints of all services.
func (s *Snapshot) EndpointCount() int {
	if s == nil {
		return 0
	}
	return s.endpoints
}

// Get returns the service of that name, or nil.
func (s *Snapshot) Get(name ServiceName) *Service {
	if s == nil {
		return nil
	}
	if len(s.blocks) == 0 {
		return nil
	}
	block := s.blocks[s.blocks.place(name)]
	i, found := find(block, name)
	if !found {
		return nil
	}
	return block[i]
}

func find(services []*Service, name ServiceName) (int, bool) {
	return slices.BinarySearchFunc(services, name, func(svc *Service, n ServiceName) int { return svc.Name.Compare(n) })
}

// All yields the services in the order of their names.
func (s *Snapshot) All() iter.Seq[*Service] {
	return func(yield func(*Service) bool) {
		if s == nil {
			return
		}
		for _, block := range s.blocks {
			for _, svc := range block {
				if !yield(svc) {
					return
				}
			}
		}
	}
}

// With returns the snapshot that has upserts in place of the services of their
// names and lacks removes; a name in both is an error, the removal of an absent
// service is none. Only upserts are validated. s itself is unchanged, and what
// did not change is shared.
func (s *Snapshot) With(upserts []*Service, removes []ServiceName) (*Snapshot, error) {
	edits := make([]edit, 0, len(upserts)+len(removes))
	for _, n := range removes {
		edits = append(edits, edit{n, nil})
	}
	return s.with(edits, upserts)
}

// with makes edits, and those that put upserts, which are validated.
func (s *Snapshot) with(edits []edit, upserts []*Service) (*Snapshot, error) {
	var p problems
	for _, u := range adopt(&p, upserts) {
		edits = append(edits, edit{u.Name, u})
	}
	slices.SortStableFunc(edits, func(a, b edit) int { return a.name.Compare(b.name) })
	for i := 1; i < len(edits); i++ {
		if a, b := edits[i-1], edits[i]; a.name == b.name && (a.put == nil) != (b.put == nil) {
			p.add(fmt.Sprintf("services[%s]", a.name), "", "is to be replaced and removed at once")
		}
	}
	next := s.edited(edits)
	next.check(&p)
	if err := p.err(); err != nil {
		return nil, fmt.Errorf("snapshot of source %q: %w", s.Source(), err)
	}
	return next, nil
}

// Take is With of the named services as from has them, or lacks them, beside
// upserts of other names. What from has was validated as it entered that one, and
// is not again.
func (s *Snapshot) Take(from *Snapshot, names []ServiceName, upserts []*Service) (*Snapshot, error) {
	edits := make([]edit, 0, len(names)+len(upserts))
	for _, n := range names {
		edits = append(edits, edit{n, from.Get(n)})
	}
	return s.with(edits, upserts)
}

// edit puts a service in place of the one of that name, or (nil) removes it.
type edit struct {
	name ServiceName
	put  *Service
}

// edited copies the blocks that the edits, which are in order, fall into.
func (s *Snapshot) edited(edits []edit) *Snapshot {
	next := &Snapshot{source: s.Source(), endpoints: s.EndpointCount(), count: s.Len()}
	var rest blocks
	if s != nil {
		rest = s.blocks
	}
	next.blocks = make(blocks, 0, len(rest)+1)
	for len(edits) > 0 {
		i := rest.place(edits[0].name)
		next.blocks = append(next.blocks, rest[:i]...)
		rest = rest[i:]
		within := len(edits)
		if len(rest) > 1 {
			within, _ = slices.BinarySearchFunc(edits, rest[1][0].Name, func(e edit, n ServiceName) int { return e.name.Compare(n) })
		}
		var old []*Service
		if len(rest) > 0 {
			old, rest = rest[0], rest[1:]
		}
		next.blocks.add(next.merged(old, edits[:within]))
		edits = edits[within:]
	}
	next.blocks = append(next.blocks, rest...)
	return next
}

// merged is a block with its edits, which are counted.
func (s *Snapshot) merged(old []*Service, edits []edit) []*Service {
	out := make([]*Service, 0, len(old)+len(edits))
	for _, e := range edits {
		i, found := find(old, e.name)
		out = append(out, old[:i]...)
		if found {
			s.endpoints -= len(old[i].Endpoints)
			s.count--
			i++
		}
		old = old[i:]
		if e.put != nil {
			s.endpoints += len(e.put.Endpoints)
			s.count++
			out = append(out, e.put)
		}
	}
	return append(out, old...)
}

// snapshotJSON is the canonical text form.
type snapshotJSON struct {
	Source   string     `json:"source"`
	Services []*Service `json:"services"`
}

// MarshalJSON writes the one canonical form: equal snapshots, equal bytes.
func (s *Snapshot) MarshalJSON() ([]byte, error) {
	v := snapshotJSON{Source: s.Source(), Services: []*Service{}}
	v.Services = slices.AppendSeq(v.Services, s.All())
	return json.Marshal(v)
}

// UnmarshalJSON reads and validates as NewSnapshot does. Unknown fields are
// ignored: a newer process may have written the file.
func (s *Snapshot) UnmarshalJSON(data []byte) error {
	var v snapshotJSON
	if err := json.Unmarshal(data, &v); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	n, err := NewSnapshot(v.Source, v.Services)
	if err != nil {
		return err
	}
	*s = *n
	return nil
}
