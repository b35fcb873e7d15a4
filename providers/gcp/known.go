package gcp

// known is what was last read of a project, by what can fail by itself.
type known struct {
	instances      scoped[vm]
	managedGroups  scoped[managedGroup]
	members        map[string]*unit[[]member] // by group
	endpointGroups scoped[endpointGroup]
	endpoints      map[string]*unit[[]networkEndpoint] // by group
	namespaces     map[string]*unit[[]string]          // by location
	directories    map[string]*unit[[]entry]           // by namespace
}

func newKnown() known {
	return known{
		members: map[string]*unit[[]member]{}, endpoints: map[string]*unit[[]networkEndpoint]{},
		namespaces: map[string]*unit[[]string]{}, directories: map[string]*unit[[]entry]{},
	}
}

// scoped is an aggregated list as last known: each scope by its last good read.
type scoped[T any] struct {
	items map[string][]T
	// lost are the scopes that the last list could not reach.
	lost map[string]bool
	// never are those of them that no list has reached so far.
	never map[string]bool
	read  bool
}

// take replaces what the list reached.
func (s *scoped[T]) take(list *scopes[T]) {
	never := map[string]bool{}
	for scope := range list.unreachable {
		delete(list.items, scope) // half a zone is none
		if old, ok := s.items[scope]; ok {
			list.items[scope] = old
		}
		if !s.read || s.never[scope] {
			never[scope] = true
		}
	}
	s.items, s.lost, s.never, s.read = list.items, list.unreachable, never, true
}

// whole reports whether every scope was read once.
func (s *scoped[T]) whole() bool { return s.read && len(s.never) == 0 }

// unit is one thing that is read as a whole, or not.
type unit[T any] struct {
	value T
	read  bool
}

// at returns the unit of that name, a new one if there is none.
func at[T any](units map[string]*unit[T], name string) *unit[T] {
	u := units[name]
	if u == nil {
		u = &unit[T]{}
		units[name] = u
	}
	return u
}

// retain forgets the units that are not wanted any more.
func retain[T any](units map[string]*unit[T], wanted map[string]bool) {
	for name := range units {
		if !wanted[name] {
			delete(units, name)
		}
	}
}
