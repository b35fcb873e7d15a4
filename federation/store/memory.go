package store

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// historyLen is how many changes can be asked for: a reader that is further
// behind lists anew, which costs it one pass over everything.
const historyLen = 1024

// memory is the state of a store and its recent history. Every read is served
// from it.
type memory struct {
	mu       sync.RWMutex
	items    map[Key]Item
	revision uint64
	history  []Change // the last historyLen, oldest first
	floor    uint64   // the revision before the first change of history
	changed  chan struct{}
	closed   bool
}

func newMemory(items map[Key]Item, revision uint64) *memory {
	return &memory{items: items, revision: revision, floor: revision, changed: make(chan struct{})}
}

func (m *memory) get(key Key) (Item, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return Item{}, ErrClosed
	}
	item, ok := m.items[key]
	if !ok {
		return Item{}, fmt.Errorf("%s: %w", key, ErrNotFound)
	}
	return item, nil
}

func (m *memory) list(kind string) ([]Item, uint64, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return nil, 0, ErrClosed
	}
	items := make([]Item, 0, len(m.items))
	for item := range maps.Values(m.items) {
		if kind == "" || item.Key.Kind == kind {
			items = append(items, item)
		}
	}
	slices.SortFunc(items, func(a, b Item) int {
		return cmp.Or(cmp.Compare(a.Key.Kind, b.Key.Kind), cmp.Compare(a.Key.Name, b.Key.Name))
	})
	return items, m.revision, nil
}

// admit decides on a write without making it: the item as it would be stored, at
// the next revision. The caller serialises writes.
func (m *memory) admit(key Key, value []byte, deleted bool, expect uint64) (Change, error) {
	if err := key.check(); err != nil {
		return Change{}, err
	}
	if len(value) > MaxValue {
		return Change{}, fmt.Errorf("%s: %d bytes, at most %d: %w", key, len(value), MaxValue, ErrTooLarge)
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return Change{}, ErrClosed
	}
	have := m.items[key].Revision // Absent where there is none
	if deleted && have == Absent && expect == Any {
		return Change{}, fmt.Errorf("%s: %w", key, ErrNotFound)
	}
	if expect != Any && expect != have {
		return Change{}, &ConflictError{Key: key, Have: have, Expected: expect}
	}
	if have == Absent && !deleted && len(m.items) >= MaxItems {
		return Change{}, fmt.Errorf("%s: %d items are stored already: %w", key, MaxItems, ErrTooLarge)
	}
	return Change{Item: Item{Key: key, Value: bytes.Clone(value), Revision: m.revision + 1}, Deleted: deleted}, nil
}

// apply makes an admitted change visible.
func (m *memory) apply(c Change) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.Deleted {
		delete(m.items, c.Item.Key)
	} else {
		m.items[c.Item.Key] = c.Item
	}
	m.revision = c.Item.Revision
	m.history = append(m.history, c)
	if over := len(m.history) - historyLen; over > 0 {
		m.floor = m.history[over-1].Item.Revision
		m.history = slices.Delete(m.history, 0, over)
	}
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *memory) changes(ctx context.Context, since uint64) ([]Change, uint64, error) {
	for {
		m.mu.RLock()
		closed, floor, revision, changed := m.closed, m.floor, m.revision, m.changed
		var out []Change
		if since >= floor && since < revision {
			first, _ := slices.BinarySearchFunc(m.history, since+1, func(c Change, r uint64) int {
				return cmp.Compare(c.Item.Revision, r)
			})
			out = slices.Clone(m.history[first:])
		}
		m.mu.RUnlock()
		switch {
		case closed:
			return nil, 0, ErrClosed
		case since < floor || since > revision:
			// A revision of the future is one of another store.
			return nil, 0, fmt.Errorf("since revision %d: %w", since, ErrCompacted)
		case len(out) > 0:
			return out, revision, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, 0, context.Cause(ctx)
		}
	}
}

func (m *memory) close() (first bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.closed = true
	close(m.changed)
	m.changed = make(chan struct{})
	return true
}
