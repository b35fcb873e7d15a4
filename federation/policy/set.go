package policy

import (
	"cmp"
	"slices"
)

// named is any resource of a Set.
type named interface {
	Export | Import | Intention | Traffic
}

// nameOf returns the name that identifies a resource in its list.
func nameOf[T named](r T) string {
	switch v := any(r).(type) {
	case Export:
		return v.Name
	case Import:
		return v.Name
	case Intention:
		return v.Name
	case Traffic:
		return v.Name
	}
	return ""
}

// sortedByName returns a sorted copy.
func sortedByName[T named](list []T) []T {
	return slices.SortedStableFunc(slices.Values(list), func(a, b T) int { return cmp.Compare(nameOf(a), nameOf(b)) })
}
