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
// and one list of pointers. A nil Snapshot is an empty one without a source.
type Snapshot struct {
	source    string
	services  []*Service // by Name.Compare
	endpoints int
}

// NewSnapshot validates, orders and takes over the services: the caller changes
// nothing of them afterwards. source is a DNS label. The error joins every
// problem as a FieldError with the service's name in its path.
func NewSnapshot(source string, services []*Service) (*Snapshot, error) {
	var p problems
	p.check("source", source, checkLabel(source))
	sorted := adopt(&p, services)
	s := &Snapshot{source: source, services: sorted}
	s.finish(&p)
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

// finish counts and checks what depends on all services.
func (s *Snapshot) finish(p *problems) {
	for _, svc := range s.services {
		s.endpoints += len(svc.Endpoints)
	}
	if s.endpoints > MaxEndpoints {
		p.add("services", s.endpoints, fmt.Sprintf("a snapshot has at most %d endpoints", MaxEndpoints))
	}
	if len(s.services) > MaxServices {
		p.add("services", len(s.services), fmt.Sprintf("a snapshot has at most %d services", MaxServices))
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
	return len(s.services)
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
	i, found := s.find(name)
	if !found {
		return nil
	}
	return s.services[i]
}

func (s *Snapshot) find(name ServiceName) (int, bool) {
	return slices.BinarySearchFunc(s.services, name, func(svc *Service, n ServiceName) int { return svc.Name.Compare(n) })
}

// All yields the services in the order of their names.
func (s *Snapshot) All() iter.Seq[*Service] {
	return func(yield func(*Service) bool) {
		if s == nil {
			return
		}
		for _, svc := range s.services {
			if !yield(svc) {
				return
			}
		}
	}
}

// With returns the snapshot that has upserts in place of the services of their
// names and lacks removes; a name in both is an error, the removal of an absent
// service is none. Only upserts are validated. s itself is unchanged, and what
// did not change is shared.
func (s *Snapshot) With(upserts []*Service, removes []ServiceName) (*Snapshot, error) {
	var p problems
	ups := adopt(&p, upserts)
	gone := make(map[ServiceName]bool, len(removes))
	for _, n := range removes {
		gone[n] = true
	}
	for _, u := range ups {
		if gone[u.Name] {
			p.add(fmt.Sprintf("services[%s]", u.Name), "", "is to be replaced and removed at once")
		}
	}
	next := &Snapshot{source: s.Source(), services: s.replaced(ups, gone)}
	next.finish(&p)
	if err := p.err(); err != nil {
		return nil, fmt.Errorf("snapshot of source %q: %w", s.Source(), err)
	}
	return next, nil
}

// replaced merges two ordered lists.
func (s *Snapshot) replaced(ups []*Service, gone map[ServiceName]bool) []*Service {
	var old []*Service
	if s != nil {
		old = s.services
	}
	out := make([]*Service, 0, len(old)+len(ups))
	for len(old) > 0 || len(ups) > 0 {
		switch {
		case len(old) == 0:
			out, ups = append(out, ups[0]), ups[1:]
		case len(ups) == 0:
			if !gone[old[0].Name] {
				out = append(out, old[0])
			}
			old = old[1:]
		default:
			switch c := compareServices(old[0], ups[0]); {
			case c < 0:
				if !gone[old[0].Name] {
					out = append(out, old[0])
				}
				old = old[1:]
			case c > 0:
				out, ups = append(out, ups[0]), ups[1:]
			default:
				out, old, ups = append(out, ups[0]), old[1:], ups[1:]
			}
		}
	}
	return out
}

// snapshotJSON is the canonical text form.
type snapshotJSON struct {
	Source   string     `json:"source"`
	Services []*Service `json:"services"`
}

// MarshalJSON writes the one canonical form: equal snapshots, equal bytes.
func (s *Snapshot) MarshalJSON() ([]byte, error) {
	v := snapshotJSON{Source: s.Source(), Services: []*Service{}}
	if s != nil && s.services != nil {
		v.Services = s.services
	}
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
