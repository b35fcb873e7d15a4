package catalog

import (
	"maps"
	"slices"
)

// Equal reports whether both endpoints say the same.
func (e Endpoint) Equal(o Endpoint) bool { return e.same(&o) }

// same is Equal without a copy of either.
func (e *Endpoint) same(o *Endpoint) bool {
	return e.ID == o.ID && e.Port == o.Port && e.Address == o.Address && e.Locality == o.Locality &&
		e.Weight == o.Weight && e.Health == o.Health && e.Source == o.Source &&
		e.Transport == o.Transport && e.ServerID == o.ServerID &&
		e.Quarantined == o.Quarantined && maps.Equal(e.Labels, o.Labels)
}

// Equal reports whether both services say the same; both are in order.
func (s *Service) Equal(o *Service) bool {
	if s == o {
		return true
	}
	return s.Name == o.Name && slices.Equal(s.Ports, o.Ports) && maps.Equal(s.Meta, o.Meta) &&
		EqualEndpoints(s.Endpoints, o.Endpoints)
}

// EqualEndpoints reports whether both lists say the same, in one order; lists of one
// memory do.
func EqualEndpoints(a, b []Endpoint) bool {
	if len(a) != len(b) {
		return false
	}
	if len(a) == 0 || &a[0] == &b[0] {
		return true
	}
	for i := range a {
		if !a[i].same(&b[i]) {
			return false
		}
	}
	return true
}

// Clone copies the service and its lists. Label and meta maps are shared: they
// are immutable in a snapshot.
func (s *Service) Clone() *Service {
	c := *s
	c.Ports = slices.Clone(s.Ports)
	c.Endpoints = slices.Clone(s.Endpoints)
	return &c
}

// Equal reports whether both snapshots say the same of the same source. It
// costs a pointer comparison per shared service.
func (s *Snapshot) Equal(o *Snapshot) bool {
	if s == o {
		return true
	}
	if s.Source() != o.Source() || s.Len() != o.Len() || s.EndpointCount() != o.EndpointCount() {
		return false
	}
	a, b := read(s), read(o)
	for a.head() != nil && b.head() != nil {
		if a.skip(b) {
			continue
		}
		if !a.head().Equal(b.head()) {
			return false
		}
		a.next()
		b.next()
	}
	return a.head() == b.head() // both have ended
}

// Delta is what leads from one snapshot to another: old.With(d.Upserts,
// d.Removes) equals new.
type Delta struct {
	// Upserts are the services that are new or differ, in order.
	Upserts []*Service `json:"upserts,omitempty"`
	// Removes are the services that are gone, in order.
	Removes []ServiceName `json:"removes,omitempty"`
}

// IsEmpty reports whether nothing changed.
func (d Delta) IsEmpty() bool { return len(d.Upserts) == 0 && len(d.Removes) == 0 }

// Diff returns what leads from old to new; either may be nil.
func Diff(old, new *Snapshot) Delta { //nolint:predeclared,revive // old and new are the words for it
	var d Delta
	a, b := read(old), read(new)
	for a.head() != nil || b.head() != nil {
		if a.skip(b) { // nearly all of them
			continue
		}
		was, is := a.head(), b.head()
		switch {
		case is == nil || was != nil && compareServices(was, is) < 0:
			d.Removes = append(d.Removes, was.Name)
			a.next()
		case was == nil || compareServices(was, is) > 0:
			d.Upserts = append(d.Upserts, is)
			b.next()
		default:
			if !was.Equal(is) {
				d.Upserts = append(d.Upserts, is)
			}
			a.next()
			b.next()
		}
	}
	return d
}
