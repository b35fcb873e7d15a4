package feed

import (
	"cmp"
	"iter"
	"slices"
)

// Group is a run of entries that are made when somebody asks for them: a list of
// a million endpoints is not kept beside the values that it is read off.
type Group[T any] struct {
	// Prefix begins the keys of all of the group's entries. Keys of one group are
	// all below or all above those of another, as their prefixes are.
	Prefix string
	// Make returns the entries, sorted by key. It is a pure function of values
	// that never change, called at any time from any goroutine.
	Make func() []Entry[T]
	// Len is how many there are.
	Len int
	// Of is what Make reads, for Differ of a later group.
	Of any
	// Differ returns the entries of an earlier group of the prefix and of this one
	// that are not the same in both, each list sorted by key, or false where they
	// have to be made to be compared. It may be nil, which is false.
	Differ func(was *Group[T]) (old, fresh []Entry[T], ok bool)
}

// Edit puts groups in place of those of their prefixes and removes others. A
// feed is either edited or replaced, never both. Entries that differ are
// recorded as changes; where an edit brings more than HistoryLen entries it is
// told as a new beginning: watchers list again.
func (f *Feed[T]) Edit(puts []Group[T], removes []string) {
	if len(puts) == 0 && len(removes) == 0 {
		return
	}
	type edit struct {
		prefix string
		put    *Group[T]
	}
	edits := make([]edit, 0, len(puts)+len(removes))
	entries := 0
	for i := range puts {
		edits = append(edits, edit{puts[i].Prefix, &puts[i]})
		entries += puts[i].Len
	}
	for _, p := range removes {
		edits = append(edits, edit{prefix: p})
	}
	slices.SortStableFunc(edits, func(a, b edit) int { return cmp.Compare(a.prefix, b.prefix) })
	f.mu.Lock()
	defer f.mu.Unlock()
	anew := entries > HistoryLen
	before := f.revision
	next := make([]*Group[T], 0, len(f.groups)+len(puts))
	rest := f.groups
	for _, e := range edits {
		i, found := slices.BinarySearchFunc(rest, e.prefix, func(g *Group[T], p string) int { return cmp.Compare(g.Prefix, p) })
		next = append(next, rest[:i]...)
		var was *Group[T]
		if found {
			was = rest[i]
			i++
		}
		rest = rest[i:]
		if e.put != nil {
			next = append(next, new(*e.put)) // of its own, for it stays longer than those beside it
		}
		if !anew {
			old, fresh := compared(was, e.put)
			f.differ(old, fresh, nil)
		}
	}
	f.groups = append(next, rest...)
	if anew {
		f.revision++
		f.floor, f.history = f.revision, nil
	}
	if f.revision != before {
		f.wake()
	}
}

// compared are the entries of two groups, nil for none, that may differ.
func compared[T any](was, is *Group[T]) (old, fresh []Entry[T]) {
	if was != nil && is != nil && is.Differ != nil {
		if old, fresh, ok := is.Differ(was); ok {
			return old, fresh
		}
	}
	if was != nil {
		old = was.Make()
	}
	if is != nil {
		fresh = is.Make()
	}
	return old, fresh
}

// differ records what leads from one sorted list to another; what both have under
// the keys of equal is.
func (f *Feed[T]) differ(old, entries []Entry[T], equal map[string]bool) {
	for i, j := 0, 0; i < len(old) || j < len(entries); {
		switch order := compareAt(old, i, entries, j); {
		case order < 0:
			f.record(old[i], true)
			i++
		case order > 0:
			f.record(entries[j], false)
			j++
		default:
			if !equal[entries[j].Key] && !f.equal(old[i].Item, entries[j].Item) {
				f.record(entries[j], false)
			}
			i, j = i+1, j+1
		}
	}
}

// runs yields the list from the key start on, in runs of entries that stand
// together.
func runs[T any](entries []Entry[T], groups []*Group[T], start string) iter.Seq[[]Entry[T]] {
	return func(yield func([]Entry[T]) bool) {
		from := func(list []Entry[T]) []Entry[T] {
			i, _ := find(list, start)
			return list[i:]
		}
		if groups == nil {
			yield(from(entries))
			return
		}
		first, found := slices.BinarySearchFunc(groups, start, func(g *Group[T], k string) int { return cmp.Compare(g.Prefix, k) })
		if !found && first > 0 {
			first-- // the group whose prefix is below may hold keys from there on
		}
		for i, g := range groups[first:] {
			list := g.Make()
			if i == 0 {
				list = from(list)
			}
			if !yield(list) {
				return
			}
		}
	}
}

// Entries yields the whole list, as it is now, and tells its revision. Nothing
// is held back of it while it is read.
func (f *Feed[T]) Entries() (iter.Seq[Entry[T]], uint64) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	entries, groups := f.entries, f.groups
	return func(yield func(Entry[T]) bool) {
		for list := range runs(entries, groups, "") {
			for _, e := range list {
				if !yield(e) {
					return
				}
			}
		}
	}, f.revision
}

// inGroup returns the entry under key: it can be in one group only.
func inGroup[T any](groups []*Group[T], key string) (item T, ok bool) {
	i, found := slices.BinarySearchFunc(groups, key, func(g *Group[T], k string) int { return cmp.Compare(g.Prefix, k) })
	if !found {
		i--
	}
	if i < 0 {
		return item, false
	}
	list := groups[i].Make()
	if i, found = find(list, key); found {
		return list[i].Item, true
	}
	return item, false
}
