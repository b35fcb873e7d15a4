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

// Memory is the state of a store and its recent changes, without archives. Every
// read of an implementation is served from it. It is safe for concurrent use.
//
// Its own revision is what List and Changes speak of: at least that of every
// item, and growing whatever those of items do. A medium that was restored from
// a backup brings items of low revisions, and they are news all the same.
type Memory struct {
	mu       sync.RWMutex
	items    map[Key]Item
	revision uint64
	history  []dated // the last historyLen, oldest first
	floor    uint64  // the revision before the first change of history
	changed  chan struct{}
	closed   bool
}

// dated is a change and the revision of the memory that it led to.
type dated struct {
	Change
	at uint64
}

// NewMemory holds items, which it owns from then on.
func NewMemory(items map[Key]Item, revision uint64) *Memory {
	return &Memory{items: items, revision: revision, floor: revision, changed: make(chan struct{})}
}

// Get is Store's, for what is no archive.
func (m *Memory) Get(key Key) (Item, error) {
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

// List is Store's.
func (m *Memory) List(kind string) ([]Item, uint64, error) {
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

// Revision is the memory's own.
func (m *Memory) Revision() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.revision
}

// Room returns ErrTooLarge where writes would make more than MaxItems, and
// ErrClosed.
func (m *Memory) Room(writes []Write) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return ErrClosed
	}
	fresh := 0
	for _, w := range writes {
		if _, there := m.items[w.Key]; !there && !w.Delete && !w.Key.Archived() {
			fresh++
		}
	}
	if fresh > 0 && len(m.items)+fresh > MaxItems {
		return fmt.Errorf("%d items are stored already: %w", len(m.items), ErrTooLarge)
	}
	return nil
}

// Made makes the writes of a transaction visible that the medium has taken.
func (m *Memory) Made(writes []Write, revision uint64) {
	var changes []Change
	for _, w := range writes {
		if w.Key.Archived() {
			continue
		}
		c := Change{Item: Item{Key: w.Key, Revision: revision}, Deleted: w.Delete}
		if !w.Delete {
			c.Item.Value = bytes.Clone(w.Value)
		}
		changes = append(changes, c)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.record(changes, revision)
}

// record applies changes that came together.
func (m *Memory) record(changes []Change, revision uint64) {
	if len(changes) == 0 {
		m.revision = max(m.revision, revision)
		return
	}
	m.revision = max(m.revision+1, revision)
	for _, c := range changes {
		if c.Deleted {
			delete(m.items, c.Item.Key)
		} else {
			m.items[c.Item.Key] = c.Item
		}
		m.history = append(m.history, dated{c, m.revision})
	}
	if over := len(m.history) - historyLen; over > 0 {
		m.floor = m.history[over-1].at
		m.history = slices.Delete(m.history, 0, over)
	}
	close(m.changed)
	m.changed = make(chan struct{})
}

// Replace makes the memory show what a reading of the whole medium found, and
// returns how many items have changed. Keys that skip says yes to stay as they
// are: the reading is older than what is known of them.
func (m *Memory) Replace(items map[Key]Item, revision uint64, skip func(Key) bool) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	var changes []Change
	for key, item := range items {
		if have, ok := m.items[key]; (!ok || have.Revision != item.Revision || !bytes.Equal(have.Value, item.Value)) && !skip(key) {
			changes = append(changes, Change{Item: item})
		}
	}
	for key := range m.items {
		if _, ok := items[key]; !ok && !skip(key) {
			changes = append(changes, Change{Item: Item{Key: key, Revision: revision}, Deleted: true})
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return cmp.Compare(a.Item.Revision, b.Item.Revision) })
	m.record(changes, revision)
	return len(changes)
}

// Changes is Store's.
func (m *Memory) Changes(ctx context.Context, since uint64) ([]Change, uint64, error) {
	for {
		m.mu.RLock()
		closed, floor, revision, changed := m.closed, m.floor, m.revision, m.changed
		var out []Change
		if since >= floor && since < revision {
			first, _ := slices.BinarySearchFunc(m.history, since+1, func(c dated, r uint64) int {
				return cmp.Compare(c.at, r)
			})
			for _, c := range m.history[first:] {
				out = append(out, c.Change)
			}
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

// Close ends every Changes, and reports whether it was the first.
func (m *Memory) Close() (first bool) {
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
