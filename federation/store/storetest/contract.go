package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/store"
)

// waitFor bounds what must happen at once; it is hit by broken stores only.
const waitFor = 10 * time.Second

// Store runs the contract over stores that open makes. Each call of open for
// the same t returns the same store, opened anew: what was written is there.
func Store(t *testing.T, open func(t *testing.T) store.Store) {
	t.Run("a new store is empty", func(t *testing.T) {
		s := open(t)
		items, _, err := s.List(t.Context(), "")
		if err != nil || len(items) != 0 {
			t.Fatalf("List = %v, %v; want nothing", items, err)
		}
		if _, err := s.Get(t.Context(), store.Key{Kind: "k", Name: "n"}); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("Get = %v, want ErrNotFound", err)
		}
		if err := s.Writable(); err != nil {
			t.Fatalf("Writable = %v", err)
		}
	})
	t.Run("check and set", func(t *testing.T) { checkAndSet(t, open(t)) })
	t.Run("one of many writers wins", func(t *testing.T) { oneWins(t, open(t)) })
	t.Run("lists are sorted and of one kind", func(t *testing.T) { lists(t, open(t)) })
	t.Run("changes since a revision", func(t *testing.T) { changes(t, open(t)) })
	t.Run("changes wait", func(t *testing.T) { changesWait(t, open(t)) })
	t.Run("too old is compacted", func(t *testing.T) { compacted(t, open(t)) })
	t.Run("bounds", func(t *testing.T) { bounds(t, open(t)) })
	t.Run("values are the store's own", func(t *testing.T) { isolation(t, open(t)) })
	t.Run("what was written outlives a restart", func(t *testing.T) { restart(t, open) })
	transactions(t, open)
	t.Run("closed", func(t *testing.T) { closed(t, open(t)) })
}

func put(t *testing.T, s store.Store, kind, name, value string, expect uint64) store.Item {
	t.Helper()
	item, err := s.Put(t.Context(), store.Key{Kind: kind, Name: name}, []byte(value), expect)
	if err != nil {
		t.Fatalf("Put %s/%s: %v", kind, name, err)
	}
	if item.Revision == store.Absent || item.Revision == store.Any {
		t.Fatalf("Put %s/%s: revision %d is reserved", kind, name, item.Revision)
	}
	return item
}

func conflict(t *testing.T, err error, have uint64) {
	t.Helper()
	var c *store.ConflictError
	if !errors.As(err, &c) {
		t.Fatalf("error = %v, want a ConflictError", err)
	}
	if c.Have != have {
		t.Fatalf("conflict has revision %d, want %d", c.Have, have)
	}
}

func checkAndSet(t *testing.T, s store.Store) {
	ctx, key := t.Context(), store.Key{Kind: "exports", Name: "a"}
	_, err := s.Put(ctx, key, []byte("x"), 17)
	conflict(t, err, store.Absent)
	first := put(t, s, "exports", "a", "1", store.Absent)
	_, err = s.Put(ctx, key, []byte("x"), store.Absent)
	conflict(t, err, first.Revision)
	second := put(t, s, "exports", "a", "2", first.Revision)
	if second.Revision <= first.Revision {
		t.Fatalf("revision went from %d to %d", first.Revision, second.Revision)
	}
	_, err = s.Put(ctx, key, []byte("x"), first.Revision)
	conflict(t, err, second.Revision)
	third := put(t, s, "exports", "a", "3", store.Any)
	conflict(t, s.Delete(ctx, key, second.Revision), third.Revision)
	got, err := s.Get(ctx, key)
	if err != nil || string(got.Value) != "3" || got.Revision != third.Revision {
		t.Fatalf("Get = %+v, %v", got, err)
	}
	if err := s.Delete(ctx, key, third.Revision); err != nil {
		t.Fatalf("Delete: %v", err)
	}
	if err := s.Delete(ctx, key, store.Any); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("Delete of nothing = %v, want ErrNotFound", err)
	}
	again := put(t, s, "exports", "a", "4", store.Absent)
	if again.Revision <= third.Revision {
		t.Fatalf("a name that came back has revision %d, it had %d: an old ETag would fit", again.Revision, third.Revision)
	}
}

func oneWins(t *testing.T, s store.Store) {
	base := put(t, s, "exports", "a", "base", store.Absent)
	const writers = 16
	won := make(chan int, writers)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			_, err := s.Put(t.Context(), base.Key, fmt.Appendf(nil, "%d", i), base.Revision)
			if err == nil {
				won <- i
			} else if c := (*store.ConflictError)(nil); !errors.As(err, &c) {
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	close(won)
	if len(won) != 1 {
		t.Fatalf("%d writers won, want 1", len(won))
	}
	got, err := s.Get(t.Context(), base.Key)
	if winner := fmt.Sprint(<-won); err != nil || string(got.Value) != winner {
		t.Fatalf("Get = %q, %v; the winner wrote %s", got.Value, err, winner)
	}
}

func lists(t *testing.T, s store.Store) {
	for _, n := range []string{"b", "a", "c"} {
		put(t, s, "exports", n, n, store.Absent)
		put(t, s, "imports", n, n, store.Absent)
	}
	for kind, want := range map[string]string{"exports": "exports/a exports/b exports/c", "": "exports/a exports/b exports/c imports/a imports/b imports/c", "x": ""} {
		items, revision, err := s.List(t.Context(), kind)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, i := range items {
			got = append(got, i.Key.String())
			if i.Revision > revision {
				t.Errorf("%s has revision %d, the list %d", i.Key, i.Revision, revision)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("List(%q) = %v, want %s", kind, got, want)
		}
	}
}

func changes(t *testing.T, s store.Store) {
	put(t, s, "exports", "before", "x", store.Absent)
	_, start, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	a := put(t, s, "exports", "a", "1", store.Absent)
	put(t, s, "exports", "a", "2", a.Revision)
	if err := s.Delete(t.Context(), a.Key, store.Any); err != nil {
		t.Fatal(err)
	}
	// A reader that follows sees every key's last state, whatever was coalesced.
	state, seen := map[store.Key]string{}, start
	for deadline := time.Now().Add(waitFor); ; {
		got, revision, err := s.Changes(t.Context(), seen)
		if err != nil || revision <= seen {
			t.Fatalf("Changes since %d = revision %d, %v", seen, revision, err)
		}
		deleted := false
		for _, c := range got {
			if c.Item.Revision <= seen || c.Item.Revision > revision {
				t.Fatalf("change of revision %d, outside of (%d, %d]", c.Item.Revision, seen, revision)
			}
			state[c.Item.Key] = string(c.Item.Value)
			deleted = c.Deleted && c.Item.Key == a.Key
		}
		seen = revision
		if deleted {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the deletion was never told; state %v", state)
		}
	}
	if _, told := state[store.Key{Kind: "exports", Name: "before"}]; told {
		t.Error("a change before since was told")
	}
}

func changesWait(t *testing.T, s store.Store) {
	_, start, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, _, err := s.Changes(ctx, start)
		ended <- err
	}()
	cancel()
	if err := receive(t, ended); !errors.Is(err, context.Canceled) {
		t.Fatalf("Changes after cancel = %v, want context.Canceled", err)
	}
	type answer struct {
		changes []store.Change
		err     error
	}
	woken := make(chan answer, 1)
	go func() {
		c, _, err := s.Changes(t.Context(), start)
		woken <- answer{c, err}
	}()
	item := put(t, s, "exports", "a", "1", store.Absent)
	got := receive(t, woken)
	if got.err != nil || len(got.changes) != 1 || got.changes[0].Item.Key != item.Key || string(got.changes[0].Item.Value) != "1" {
		t.Fatalf("Changes = %+v", got)
	}
}

func receive[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(waitFor):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

func compacted(t *testing.T, s store.Store) {
	_, start, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "exports", "a", "1", store.Absent)
	_, now, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Changes(t.Context(), now+1_000_000); !errors.Is(err, store.ErrCompacted) {
		t.Fatalf("Changes since the future = %v, want ErrCompacted", err)
	}
	if _, _, err := s.Changes(t.Context(), start); err != nil {
		t.Fatalf("Changes since the start = %v", err)
	}
}

func bounds(t *testing.T, s store.Store) {
	ctx := t.Context()
	if _, err := s.Put(ctx, store.Key{Kind: "k", Name: "n"}, make([]byte, store.MaxValue+1), store.Any); !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("Put of a large value = %v, want ErrTooLarge", err)
	}
	if _, err := s.Put(ctx, store.Key{Kind: "k", Name: "n"}, make([]byte, store.MaxValue), store.Any); err != nil {
		t.Errorf("Put of the largest value = %v", err)
	}
	for _, key := range []store.Key{
		{Kind: "", Name: "n"},
		{Kind: "k", Name: ""},
		{Kind: "k", Name: "a\x00b"},
		{Kind: "k/l", Name: "n"},
		{Kind: "k", Name: strings.Repeat("n", store.MaxKeyPart+1)},
	} {
		if _, err := s.Put(ctx, key, nil, store.Any); err == nil {
			t.Errorf("Put %q was accepted", key)
		}
	}
}

func isolation(t *testing.T, s store.Store) {
	value := []byte("mine")
	item, err := s.Put(t.Context(), store.Key{Kind: "k", Name: "n"}, value, store.Absent)
	if err != nil {
		t.Fatal(err)
	}
	value[0] = 'X'
	got, err := s.Get(t.Context(), item.Key)
	if err != nil || !bytes.Equal(got.Value, []byte("mine")) {
		t.Fatalf("Get = %q, %v; the writer's buffer was kept", got.Value, err)
	}
}

func restart(t *testing.T, open func(t *testing.T) store.Store) {
	s := open(t)
	kept := put(t, s, "exports", "kept", "1", store.Absent)
	gone := put(t, s, "exports", "gone", "1", store.Absent)
	if err := s.Delete(t.Context(), gone.Key, store.Any); err != nil {
		t.Fatal(err)
	}
	_, before, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t)
	items, after, err := s.List(t.Context(), "")
	if err != nil || len(items) != 1 || items[0].Revision != kept.Revision || string(items[0].Value) != "1" {
		t.Fatalf("after the restart List = %+v, %v", items, err)
	}
	if after < before {
		t.Fatalf("revision went back from %d to %d", before, after)
	}
	if next := put(t, s, "exports", "next", "1", store.Absent); next.Revision <= before {
		t.Fatalf("revision %d was given out before the restart (%d)", next.Revision, before)
	}
}

func closed(t *testing.T, s store.Store) {
	_, start, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, _, err := s.Changes(t.Context(), start)
		ended <- err
	}()
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	if err := receive(t, ended); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Changes = %v, want ErrClosed", err)
	}
	key := store.Key{Kind: "k", Name: "n"}
	if _, err := s.Get(t.Context(), key); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Get = %v, want ErrClosed", err)
	}
	if _, err := s.Put(t.Context(), key, nil, store.Any); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Put = %v, want ErrClosed", err)
	}
}
