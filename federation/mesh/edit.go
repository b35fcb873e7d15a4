package mesh

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// ordered is what lists are sorted by.
type ordered interface {
	catalog.ClusterName | catalog.ServiceName
}

func compare[K ordered](a, b K) int {
	switch a := any(a).(type) {
	case catalog.ServiceName:
		return a.Compare(any(b).(catalog.ServiceName))
	default:
		return strings.Compare(string(any(a).(catalog.ClusterName)), string(any(b).(catalog.ClusterName)))
	}
}

// walk calls differ for each item of two sorted lists that is not the same in
// both; nil stands for none. Items that are the same have one key.
func walk[T any, K ordered](a, b []T, key func(*T) K, same func(*T, *T) bool, differ func(was, is *T)) {
	for i, j := 0, 0; i < len(a) || j < len(b); {
		if i < len(a) && j < len(b) && same(&a[i], &b[j]) {
			i, j = i+1, j+1
			continue
		}
		order := 0
		switch {
		case j == len(b):
			order = -1
		case i == len(a):
			order = 1
		default:
			order = compare(key(&a[i]), key(&b[j]))
		}
		switch {
		case order < 0:
			differ(&a[i], nil)
			i++
		case order > 0:
			differ(nil, &b[j])
			j++
		default:
			differ(&a[i], &b[j])
			i, j = i+1, j+1
		}
	}
}

// edit returns the sorted list with puts in place of what has their keys and
// without removes; each passes change first, nil standing for none. Both are
// sorted, each key once; what is removed is there.
func edit[T any, K ordered](list, puts []T, removes []K, key func(*T) K, change func(was, is *T) *T) ([]T, error) {
	out := make([]T, 0, len(list)+len(puts))
	for i := range puts {
		if i > 0 && compare(key(&puts[i-1]), key(&puts[i])) >= 0 {
			return nil, errors.New("is not sorted, or has a name twice")
		}
	}
	for i := range removes {
		if i > 0 && compare(removes[i-1], removes[i]) >= 0 {
			return nil, errors.New("is not sorted, or has a name twice")
		}
	}
	find := func(k K) (int, bool) {
		return slices.BinarySearchFunc(list, k, func(t T, k K) int { return compare(key(&t), k) })
	}
	for len(puts) > 0 || len(removes) > 0 {
		order := 0
		switch {
		case len(removes) == 0:
			order = -1
		case len(puts) == 0:
			order = 1
		default:
			order = compare(key(&puts[0]), removes[0])
		}
		if order == 0 {
			return nil, errors.New("has a name that it also removes")
		}
		k := func() K {
			if order < 0 {
				return key(&puts[0])
			}
			return removes[0]
		}()
		i, found := find(k)
		out = append(out, list[:i]...)
		var was *T
		if found {
			was = &list[i]
			i++
		}
		list = list[i:]
		if order < 0 {
			out = append(out, *change(was, &puts[0]))
			puts = puts[1:]
			continue
		}
		if was == nil {
			return nil, fmt.Errorf("%w: removes what is not there", ErrDrift)
		}
		change(was, nil)
		removes = removes[1:]
	}
	return append(out, list...), nil
}
