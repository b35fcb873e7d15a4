package policy

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
)

// MaxRules bounds each list of a Set.
const MaxRules = 10_000

// named is any resource of a Set.
type named interface {
	Export | Import | Intention | Traffic
	ruleName() string
	validate(problems)
}

func (e Export) ruleName() string     { return e.Name }
func (m Import) ruleName() string     { return m.Name }
func (in Intention) ruleName() string { return in.Name }
func (t Traffic) ruleName() string    { return t.Name }

// Canonical is s with every list sorted by name; two sets that say the same in
// another order have equal canonical forms and so equal JSON.
func (s Set) Canonical() Set {
	return Set{
		Exports:    sortedByName(s.Exports),
		Imports:    sortedByName(s.Imports),
		Intentions: sortedByName(s.Intentions),
		Traffic:    sortedByName(s.Traffic),
	}
}

// Equal reports whether both sets hold the same rules, in any order. Sets of one
// memory, as those that nothing has changed since are, cost nothing to compare.
func (s Set) Equal(o Set) bool {
	if sharesList(s.Exports, o.Exports) && sharesList(s.Imports, o.Imports) && sharesList(s.Intentions, o.Intentions) && sharesList(s.Traffic, o.Traffic) {
		return true
	}
	return reflect.DeepEqual(s.Canonical(), o.Canonical())
}

func sharesList[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// Validate reports every problem of every rule ("exports[3].to[0]"), and names
// that are used twice in a list.
func (s Set) Validate() error {
	p := newProblems()
	validateList(p, "exports", s.Exports)
	validateList(p, "imports", s.Imports)
	validateList(p, "intentions", s.Intentions)
	validateList(p, "traffic_policies", s.Traffic)
	return p.err()
}

func validateList[T named](p problems, field string, list []T) {
	checkCount(p, field, len(list), 0, MaxRules)
	first := make(map[string]int, len(list))
	for i, r := range list {
		at := p.at("%s[%d]", field, i)
		r.validate(at)
		name := r.ruleName()
		if j, taken := first[name]; taken {
			at.add("name", name, "is the name of %s too", fmt.Sprintf("%s[%d]", field, j))
			continue
		}
		first[name] = i
	}
}

// sortedByName returns a sorted copy, never nil, so that an empty list is []
// in JSON.
func sortedByName[T named](list []T) []T {
	out := slices.Clone(list)
	if out == nil {
		out = []T{}
	}
	slices.SortStableFunc(out, func(a, b T) int { return cmp.Compare(a.ruleName(), b.ruleName()) })
	return out
}
