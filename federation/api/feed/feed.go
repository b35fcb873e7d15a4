package feed

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// HistoryLen is how many changes of one feed can be asked for: with a change of
// every link each second, a reader may be away for a minute at 60 links.
const HistoryLen = 4096

// ErrGone means that the history does not reach back to the asked revision, or
// that it is none of this feed's.
var ErrGone = errors.New("the revision is too old")

// Entry is one item under its key.
type Entry[T any] struct {
	Key  string
	Item T
}

// Change is one change of one item. Deleted has the item as it was.
type Change[T any] struct {
	Entry[T]
	Revision uint64
	Deleted  bool
}

// Feed is one list. It is safe for concurrent use.
type Feed[T any] struct {
	equal func(a, b T) bool

	mu       sync.RWMutex
	entries  []Entry[T]  // sorted by key; replaced, never changed
	groups   []*Group[T] // the same, of a feed that is edited; nil in others
	revision uint64
	history  []Change[T] // oldest first
	floor    uint64      // the revision before history[0]
	changed  chan struct{}
}

// New returns an empty feed. Its revisions start above base, which grows from
// process to process, so that a revision of a process before is never taken for
// one of this. equal tells whether a change is one.
func New[T any](base uint64, equal func(a, b T) bool) *Feed[T] {
	return &Feed[T]{equal: equal, revision: base + 1, floor: base + 1, changed: make(chan struct{})}
}

// Replace makes entries, sorted by key and without repeated keys, the list.
func (f *Feed[T]) Replace(entries []Entry[T]) { f.ReplaceBut(entries, nil) }

// ReplaceBut is Replace where the caller knows of some keys that what is listed
// under them is equal: it is replaced, and not compared.
func (f *Feed[T]) ReplaceBut(entries []Entry[T], equal map[string]bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.revision
	old := f.entries
	f.differ(old, entries, equal)
	f.entries = entries
	if f.revision != before {
		f.wake()
	}
}

// compareAt orders the heads of two lists; a list that has ended is last.
func compareAt[T any](a []Entry[T], i int, b []Entry[T], j int) int {
	switch {
	case i == len(a):
		return 1
	case j == len(b):
		return -1
	default:
		return cmp.Compare(a[i].Key, b[j].Key)
	}
}

// Append adds an entry whose key is above every other, and drops the first ones
// beyond limit without telling: a journal's end is no news.
func (f *Feed[T]) Append(e Entry[T], limit int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	kept := f.entries[max(0, len(f.entries)+1-limit):]
	f.entries = append(slices.Clone(kept), e)
	f.record(e, false)
	f.wake()
}

func (f *Feed[T]) record(e Entry[T], deleted bool) {
	f.revision++
	f.history = append(f.history, Change[T]{Entry: e, Revision: f.revision, Deleted: deleted})
	// Cut in blocks, so that a stream of single changes does not move the whole
	// history each time.
	if len(f.history) >= 2*HistoryLen {
		cut := len(f.history) - HistoryLen
		f.floor = f.history[cut-1].Revision
		f.history = slices.Clone(f.history[cut:])
	}
}

func (f *Feed[T]) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// Get returns the item under key.
func (f *Feed[T]) Get(key string) (T, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.groups != nil {
		return inGroup(f.groups, key)
	}
	i, ok := find(f.entries, key)
	if !ok {
		var zero T
		return zero, false
	}
	return f.entries[i].Item, true
}

// All returns the whole list and its revision. The slice is not to be changed.
func (f *Feed[T]) All() ([]Entry[T], uint64) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.groups == nil {
		return f.entries, f.revision
	}
	var all []Entry[T]
	for list := range runs(f.entries, f.groups, "") {
		all = append(all, list...)
	}
	return all, f.revision
}

// Page returns up to limit entries with keys above after that keep lets through
// (nil: all), whether there may be more, and the list's revision. Keys and not
// positions are what a page goes on from, so that a list that changes meanwhile
// repeats and skips nothing that stayed.
func (f *Feed[T]) Page(after string, limit int, keep func(T) bool) (page []Entry[T], more bool, revision uint64) {
	return f.PageIn("", after, limit, keep)
}

// PageIn is Page of the entries whose keys begin with prefix.
func (f *Feed[T]) PageIn(prefix, after string, limit int, keep func(T) bool) (page []Entry[T], more bool, revision uint64) {
	f.mu.RLock()
	entries, groups, revision := f.entries, f.groups, f.revision
	f.mu.RUnlock()
	for list := range runs(entries, groups, max(prefix, after)) {
		for _, e := range list {
			if e.Key <= after && after != "" || e.Key < prefix || keep != nil && !keep(e.Item) {
				continue
			}
			if !strings.HasPrefix(e.Key, prefix) {
				return page, false, revision // keys are in order: no more of them follow
			}
			if len(page) == limit {
				return page, true, revision
			}
			page = append(page, e)
		}
	}
	return page, false, revision
}

// Since returns the changes after a revision, oldest first, the revision that
// they lead to, and a channel that is closed at the next change. The error wraps
// ErrGone.
func (f *Feed[T]) Since(revision uint64) ([]Change[T], uint64, <-chan struct{}, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if revision < f.floor || revision > f.revision {
		return nil, 0, nil, fmt.Errorf("revision %d is outside of [%d, %d]: %w", revision, f.floor, f.revision, ErrGone)
	}
	i, _ := slices.BinarySearchFunc(f.history, revision+1, func(c Change[T], r uint64) int { return cmp.Compare(c.Revision, r) })
	return slices.Clone(f.history[i:]), f.revision, f.changed, nil
}

func find[T any](entries []Entry[T], key string) (int, bool) {
	return slices.BinarySearchFunc(entries, key, func(e Entry[T], k string) int { return cmp.Compare(e.Key, k) })
}
