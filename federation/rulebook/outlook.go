package rulebook

import (
	"cmp"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// Outlook is everything as it would be after a write that is not made.
type Outlook struct {
	// Set is canonical, Peers are in their order of precedence; neither is to be
	// changed.
	Set   policy.Set
	Peers []policy.Peer
	// Window is how far back callers count that were seen; 0 is as far as they are
	// remembered.
	Window time.Duration
}

// With is what holds once r is on the shelf, in the place of the rule of its name
// if there is one.
func (s *Shelf[R]) With(r R) Outlook {
	o := s.book.outlook()
	s.ops.foresee(&o, s.ops.name(r), &r)
	return o
}

// Without is what holds once the rule of that name is gone.
func (s *Shelf[R]) Without(name string) Outlook {
	o := s.book.outlook()
	s.ops.foresee(&o, name, nil)
	return o
}

// outlook is everything as it is.
func (b *Book) outlook() Outlook {
	b.setMu.RLock()
	defer b.setMu.RUnlock()
	return Outlook{Set: b.set, Peers: b.joined}
}

// foreseen returns list with rule in the place of the one of that name, at the end
// where there is none, or (nil) without it. list is not changed.
func foreseen[P any](list []P, name string, nameOf func(P) string, rule *P) []P {
	list = slices.Clone(list)
	at := slices.IndexFunc(list, func(p P) bool { return nameOf(p) == name })
	switch {
	case at < 0 && rule != nil:
		list = append(list, *rule)
	case at >= 0 && rule != nil:
		list[at] = *rule
	case at >= 0:
		list = slices.Delete(list, at, at+1)
	}
	return list
}

// foreseenIn is foreseen for a list of a set, which is kept in the order of names.
func foreseenIn[P any](list []P, name string, nameOf func(P) string, rule *P) []P {
	list = foreseen(list, name, nameOf, rule)
	slices.SortStableFunc(list, func(a, b P) int { return cmp.Compare(nameOf(a), nameOf(b)) })
	return list
}
