package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/store"
)

const archiveKind = store.ArchivePrefix + "test"

func transactions(t *testing.T, open func(t *testing.T) store.Store) {
	t.Run("all or none", func(t *testing.T) { allOrNone(t, open(t)) })
	t.Run("transactions are bounded", func(t *testing.T) { transactionBounds(t, open(t)) })
	t.Run("archives", func(t *testing.T) { archives(t, open) })
	t.Run("a counter loses no step", func(t *testing.T) { counter(t, open(t)) })
}

func allOrNone(t *testing.T, s store.Store) {
	a := put(t, s, "exports", "a", "1", store.Absent)
	b := put(t, s, "exports", "b", "1", store.Absent)
	key := func(name string) store.Key { return store.Key{Kind: "exports", Name: name} }

	for name, last := range map[string]store.Write{
		"conflict":            {Key: key("b"), Value: []byte("2"), Expect: a.Revision},
		"delete of nothing":   {Key: key("none"), Delete: true, Expect: store.Any},
		"delete of an old":    {Key: key("b"), Delete: true, Expect: a.Revision},
		"create of what is":   {Key: key("b"), Value: []byte("2"), Expect: store.Absent},
		"an archive's record": {Key: store.Key{Kind: archiveKind, Name: "x"}, Value: []byte("2"), Expect: 17},
	} {
		_, err := s.Apply(t.Context(),
			store.Write{Key: key("a"), Value: []byte("2"), Expect: a.Revision},
			store.Write{Key: key("c"), Value: []byte("2"), Expect: store.Absent},
			last)
		if err == nil {
			t.Fatalf("%s: the transaction was made", name)
		}
		items, _, err := s.List(t.Context(), "")
		if err != nil || len(items) != 2 || string(items[0].Value) != "1" || string(items[1].Value) != "1" {
			t.Fatalf("%s: after a refused transaction List = %v, %v", name, items, err)
		}
	}
	revision, err := s.Apply(t.Context(),
		store.Write{Key: key("a"), Value: []byte("2"), Expect: a.Revision},
		store.Write{Key: key("b"), Delete: true, Expect: b.Revision},
		store.Write{Key: key("c"), Value: []byte("2"), Expect: store.Any})
	if err != nil || revision <= b.Revision {
		t.Fatalf("Apply = %d, %v", revision, err)
	}
	items, _, err := s.List(t.Context(), "")
	if err != nil || len(items) != 2 || items[0].Key != key("a") || items[1].Key != key("c") ||
		items[0].Revision != revision || items[1].Revision != revision {
		t.Fatalf("List = %+v, %v; want a and c at %d", items, err, revision)
	}
}

func transactionBounds(t *testing.T, s store.Store) {
	var many []store.Write
	for i := range store.MaxWrites + 1 {
		many = append(many, store.Write{Key: store.Key{Kind: "k", Name: fmt.Sprint("n", i)}, Value: []byte("v"), Expect: store.Any})
	}
	if _, err := s.Apply(t.Context(), many...); !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("Apply of %d writes = %v, want ErrTooLarge", len(many), err)
	}
	if _, err := s.Apply(t.Context(), many[:store.MaxWrites]...); err != nil {
		t.Errorf("Apply of %d writes = %v", store.MaxWrites, err)
	}
	if _, err := s.Apply(t.Context()); err == nil {
		t.Error("Apply of nothing was made")
	}
	if _, err := s.Apply(t.Context(), many[0], many[0]); err == nil {
		t.Error("Apply of one key twice was made")
	}
	half := make([]byte, store.MaxTransaction/2)
	large := []store.Write{
		{Key: store.Key{Kind: "k", Name: "x"}, Value: half, Expect: store.Any},
		{Key: store.Key{Kind: "k", Name: "y"}, Value: half, Expect: store.Any},
	}
	if _, err := s.Apply(t.Context(), large...); err != nil {
		t.Errorf("Apply of the most that one may hold = %v", err)
	}
	large[0].Value = append(half, 'x')
	if _, err := s.Apply(t.Context(), large...); !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("Apply of more than one may hold = %v, want ErrTooLarge", err)
	}
}

// Archives are written with everything else, and seen by Get and Scan alone.
func archives(t *testing.T, open func(t *testing.T) store.Store) {
	s := open(t)
	ctx := t.Context()
	name := func(i int) string { return fmt.Sprintf("%06d", i) }
	_, start, err := s.List(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	const records = 25
	for i := range records {
		revision, err := s.Apply(ctx,
			store.Write{Key: store.Key{Kind: "exports", Name: "a"}, Value: fmt.Appendf(nil, "%d", i), Expect: store.Any},
			store.Write{Key: store.Key{Kind: archiveKind, Name: name(i)}, Value: fmt.Appendf(nil, "was %d", i), Expect: store.Absent})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Get(ctx, store.Key{Kind: archiveKind, Name: name(i)}); err != nil || got.Revision != revision {
			t.Fatalf("Get of a record = %+v, %v; want revision %d", got, err, revision)
		}
	}
	items, _, err := s.List(ctx, "")
	if err != nil || len(items) != 1 {
		t.Fatalf("List = %v, %v; an archive is not listed", items, err)
	}
	told, _, err := s.Changes(ctx, start)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range told {
		if c.Item.Key.Archived() {
			t.Fatalf("Changes tells of %s", c.Item.Key)
		}
	}
	if _, err := s.Put(ctx, store.Key{Kind: archiveKind, Name: name(3)}, []byte("x"), store.Absent); err == nil {
		t.Error("a record was written twice")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t)
	seen, after := 0, ""
	for {
		page, err := s.Scan(ctx, archiveKind, after, 10)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		if len(page) > 10 {
			t.Fatalf("Scan of 10 = %d records", len(page))
		}
		for _, item := range page {
			if item.Key.Name != name(seen) || string(item.Value) != fmt.Sprintf("was %d", seen) {
				t.Fatalf("record %d = %s %q", seen, item.Key, item.Value)
			}
			seen++
		}
		after = page[len(page)-1].Key.Name
	}
	if seen != records {
		t.Fatalf("Scan found %d records, want %d", seen, records)
	}
	if none, err := s.Scan(ctx, store.ArchivePrefix+"tes", "", 10); err != nil || len(none) != 0 {
		t.Fatalf("Scan of another kind = %v, %v", none, err)
	}
	if err := s.Delete(ctx, store.Key{Kind: archiveKind, Name: name(0)}, store.Any); err != nil {
		t.Fatal(err)
	}
	if page, err := s.Scan(ctx, archiveKind, "", 1); err != nil || len(page) != 1 || page[0].Key.Name != name(1) {
		t.Fatalf("Scan after a deletion = %v, %v", page, err)
	}
	if _, err := s.Get(ctx, store.Key{Kind: archiveKind, Name: name(0)}); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("Get of a deleted record = %v", err)
	}
}

// Writers that read, add one and write back under check-and-set, each step with
// a record: no step and no record is lost.
func counter(t *testing.T, s store.Store) {
	const writers, steps = 4, 10
	key := store.Key{Kind: "state", Name: "n"}
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for done := 0; done < steps; {
				item, err := s.Get(t.Context(), key)
				if err != nil && !errors.Is(err, store.ErrNotFound) {
					t.Error(err)
					return
				}
				n := 0
				if err == nil {
					if _, err := fmt.Sscan(string(item.Value), &n); err != nil {
						t.Error(err)
						return
					}
				}
				_, err = s.Apply(t.Context(),
					store.Write{Key: key, Value: fmt.Append(nil, n+1), Expect: item.Revision},
					store.Write{Key: store.Key{Kind: archiveKind, Name: fmt.Sprintf("%06d", n)}, Expect: store.Absent})
				if _, conflict := errors.AsType[*store.ConflictError](err); conflict {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				done++
			}
		})
	}
	wg.Wait()
	got, err := s.Get(t.Context(), key)
	if want := fmt.Sprint(writers * steps); err != nil || string(got.Value) != want {
		t.Fatalf("counted to %s, %v; want %s", got.Value, err, want)
	}
	records, err := s.Scan(t.Context(), archiveKind, "", store.MaxScan)
	if err != nil || len(records) != writers*steps {
		t.Fatalf("%d records, %v", len(records), err)
	}
}
