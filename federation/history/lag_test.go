package history_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/history"
	"github.com/isthmus-mesh/isthmus/federation/store"
)

// lagging is a replica's view of a store that others write: Get shows what was there
// at the last Refresh, Scan what is there now.
type lagging struct {
	store.Store

	mu        sync.Mutex
	seen      map[store.Key]store.Item
	refreshed int
}

func (l *lagging) Get(ctx context.Context, key store.Key) (store.Item, error) {
	if key.Archived() {
		return l.Store.Get(ctx, key)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	item, ok := l.seen[key]
	if !ok {
		return store.Item{}, fmt.Errorf("%s: %w", key, store.ErrNotFound)
	}
	return item, nil
}

func (l *lagging) Refresh(ctx context.Context) error {
	items, _, err := l.List(ctx, "")
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refreshed++
	l.seen = make(map[store.Key]store.Item, len(items))
	for _, i := range items {
		l.seen[i.Key] = i
	}
	return err
}

// What another process compacts is no damage, also where the own view still shows
// the head of before: the records on which an older checkpoint stood are gone by then.
func TestCompactionByOthersIsNoDamage(t *testing.T) {
	s := bolt(t)
	writer := open(t, history.Options{Store: s, MaxRecords: 20})
	behind := &lagging{Store: s}
	put := func(n int) {
		t.Helper()
		for i := range n {
			if _, err := writer.Put(t.Context(), key("exports", fmt.Sprint("r", i%5)), fmt.Append(nil, i), store.Any); err != nil {
				t.Fatal(err)
			}
		}
		if err := writer.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	put(30)
	if err := behind.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	reader := open(t, history.Options{Store: behind, MaxRecords: 20})
	first := reader.First()
	put(30)
	v, err := reader.Verify(t.Context())
	if err != nil || !v.OK || v.First <= first || behind.refreshed != 2 {
		t.Errorf("Verify = %+v, %v after %d refreshes; want a whole history from beyond %d, after one more", v, err, behind.refreshed, first)
	}
	if err := reader.Sync(t.Context()); err != nil || reader.Broken() != "" {
		t.Errorf("Sync = %v, broken %q", err, reader.Broken())
	}
}

// A replica that believes that there are too many records drops none of those that
// another has left.
func TestOnlyOneCompacts(t *testing.T) {
	s := bolt(t)
	logs := []*history.Log{open(t, history.Options{Store: s, MaxRecords: 20}), open(t, history.Options{Store: s, MaxRecords: 20})}
	for i := range 30 {
		if _, err := logs[0].Put(t.Context(), key("exports", "a"), fmt.Append(nil, i), store.Any); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range logs {
		if err := l.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range logs {
		if err := errors.Join(l.Compact(t.Context()), l.Sync(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	if logs[0].First() != logs[1].First() || logs[0].Last() != 31 || logs[1].Last() != 31 {
		t.Errorf("records %d to %d and %d to %d; want one checkpoint, 31", logs[0].First(), logs[0].Last(), logs[1].First(), logs[1].Last())
	}
}
