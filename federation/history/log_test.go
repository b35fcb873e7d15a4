package history_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/federation/history"
	"github.com/isthmus-mesh/isthmus/federation/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tester is what *testing.T and *rapid.T have in common.
type tester interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

var kinds = []string{"exports", "intentions"}

func bolt(t testing.TB) *store.Bolt {
	t.Helper()
	s, err := store.OpenBolt(store.BoltOptions{Path: filepath.Join(t.TempDir(), "store.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func open(t tester, opts history.Options) *history.Log {
	t.Helper()
	opts.Kinds = kinds
	l, err := history.New(context.Background(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func verified(t tester, l *history.Log) {
	t.Helper()
	v, err := l.Verify(context.Background())
	if err != nil || !v.OK {
		t.Fatalf("Verify = %+v, %v", v, err)
	}
}

func key(kind, name string) store.Key { return store.Key{Kind: kind, Name: name} }

// served is everything that a reader of the store sees of recorded kinds.
func served(t tester, s store.Store) string {
	t.Helper()
	var out strings.Builder
	for _, kind := range kinds {
		items, _, err := s.List(context.Background(), kind)
		if err != nil {
			t.Fatal(err)
		}
		writeItems(&out, items)
	}
	return out.String()
}

func writeItems(out *strings.Builder, items []store.Item) {
	for _, i := range items {
		fmt.Fprintf(out, "%s@%d=%q\n", i.Key, i.Revision, i.Value)
	}
}

// past is the same of a state that was rebuilt.
func past(t tester, l *history.Log, asOf string) string {
	t.Helper()
	state, err := l.At(context.Background(), asOf)
	if err != nil {
		t.Fatalf("At %s: %v", asOf, err)
	}
	var out strings.Builder
	for _, kind := range kinds {
		writeItems(&out, state.Items(kind))
	}
	return out.String()
}

// Whatever is written, each past state is, byte for byte and revision for
// revision, what was served then: by this log, by one that has read the store
// anew, and after the oldest records were dropped.
func TestEveryPastStateIsWhatWasServedThen(t *testing.T) {
	dir, runs := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		s, err := store.OpenBolt(store.BoltOptions{Path: filepath.Join(dir, fmt.Sprint(runs, ".db"))})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		clock := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		bound := rapid.SampledFrom([]int{5, 8, 1000}).Draw(t, "bound")
		opts := history.Options{Store: s, MaxRecords: bound, Now: func() time.Time { return clock }}
		l := open(t, opts)
		was := map[uint64]string{0: ""}
		last := uint64(0)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			// Clocks go back, too: the order of records is that of their writing.
			clock = clock.Add(time.Duration(rapid.IntRange(-2, 5).Draw(t, "seconds")) * time.Second)
			var writes []store.Write
			for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 1, 3, rapid.ID).Draw(t, "names") {
				w := store.Write{Key: key(rapid.SampledFrom(kinds).Draw(t, "kind"), name), Expect: store.Any}
				if w.Delete = rapid.Bool().Draw(t, "delete"); !w.Delete {
					w.Value = rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "value")
				}
				writes = append(writes, w)
			}
			_, err := l.Apply(context.Background(), writes...)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				t.Fatal(err)
			}
			if err == nil {
				last += uint64(len(writes))
				was[last] = served(t, l)
			}
			if _, err := l.Put(context.Background(), key("state", "epoch"), []byte("1"), store.Any); err != nil {
				t.Fatal(err) // no recorded kind
			}
			if err := l.Compact(context.Background()); err != nil {
				t.Fatal(err)
			}
			last = l.Last()
		}
		for _, l := range []*history.Log{l, open(t, opts)} {
			verified(t, l)
			for sequence, want := range was {
				if sequence < l.First()-1 {
					if _, err := l.At(context.Background(), fmt.Sprint(sequence)); !errors.Is(err, history.ErrCompacted) {
						t.Fatalf("At %d, first %d: %v; want ErrCompacted", sequence, l.First(), err)
					}
					continue
				}
				if got := past(t, l, fmt.Sprint(sequence)); got != want {
					t.Fatalf("as of %d:\n%swas\n%s", sequence, got, want)
				}
			}
			if got, want := past(t, l, fmt.Sprint(l.Last())), served(t, l); got != want {
				t.Fatalf("now:\n%sis\n%s", got, want)
			}
		}
	})
}

// The record says who, why, when, from what and to what.
func TestARecordSaysItAll(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 5, time.UTC)
	l := open(t, history.Options{Store: bolt(t), Now: func() time.Time { return at }})
	ctx := store.WithAuthor(t.Context(), store.Author{Principal: "alice", Reason: "open the shop", RequestID: "r-7"})
	item, err := l.Put(ctx, key("exports", "shop"), []byte(`{"a":1}`), store.Absent)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Put(t.Context(), item.Key, []byte(`{"a":2}`), item.Revision); err != nil {
		t.Fatal(err)
	}
	if err := l.Delete(ctx, item.Key, store.Any); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`create api exports/shop by alice "open the shop" r-7:  -> {"a":1}`,
		`replace api exports/shop by system "" : {"a":1} -> {"a":2}`,
		`delete api exports/shop by alice "open the shop" r-7: {"a":2} -> `,
	}
	previous := ""
	for i, w := range want {
		r, err := l.Find(t.Context(), uint64(i+1))
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprintf("%s %s %s/%s by %s %q %s: %s -> %s", r.Action, r.Origin, r.Kind, r.Name, r.Principal, r.Reason, r.RequestID, r.Before, r.After)
		if got != w || !r.At.Equal(at) || r.Previous != previous || r.Hash != r.Sum() {
			t.Errorf("record %d: %s at %s, previous %s; want %s", i+1, got, r.At, r.Previous, w)
		}
		previous = r.Hash
	}
	if _, err := l.Find(t.Context(), 4); !errors.Is(err, history.ErrFuture) {
		t.Errorf("Find 4 = %v, want ErrFuture", err)
	}
}

// A refused write leaves no record, and none is written for what is not
// recorded.
func TestNoChangeNoRecord(t *testing.T) {
	l := open(t, history.Options{Store: bolt(t)})
	item, err := l.Put(t.Context(), key("exports", "a"), []byte("1"), store.Absent)
	if err != nil {
		t.Fatal(err)
	}
	var conflict *store.ConflictError
	if _, err := l.Put(t.Context(), item.Key, []byte("2"), store.Absent); !errors.As(err, &conflict) {
		t.Errorf("Put = %v, want a conflict", err)
	}
	if err := l.Delete(t.Context(), item.Key, item.Revision+7); !errors.As(err, &conflict) {
		t.Errorf("Delete = %v, want a conflict", err)
	}
	if err := l.Delete(t.Context(), key("exports", "b"), store.Any); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Delete of nothing = %v", err)
	}
	if _, err := l.Put(t.Context(), key("exports", "b"), make([]byte, history.MaxValue+1), store.Any); !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("Put of a large value = %v, want ErrTooLarge", err)
	}
	if _, err := l.Put(t.Context(), key("state", "b"), []byte("1"), store.Any); err != nil {
		t.Error(err)
	}
	if l.Last() != 1 {
		t.Errorf("%d records, want 1", l.Last())
	}
	verified(t, l)
}

// Many writers in several processes: one chain, no gap, and as many records as
// there were acknowledged writes.
func TestManyWritersMakeOneChain(t *testing.T) {
	s := bolt(t)
	const processes, writers, writes = 3, 4, 15
	logs := make([]*history.Log, processes)
	var wg sync.WaitGroup
	for p := range logs {
		logs[p] = open(t, history.Options{Store: s})
		for w := range writers {
			wg.Go(func() {
				for i := range writes {
					if _, err := logs[p].Put(t.Context(), key("exports", fmt.Sprintf("r-%d", w)), fmt.Appendf(nil, "%d/%d", p, i), store.Any); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	for _, l := range logs {
		verified(t, l)
		if l.Last() != processes*writers*writes {
			t.Errorf("%d records, want %d", l.Last(), processes*writers*writes)
		}
		if got := past(t, l, fmt.Sprint(l.Last())); got != served(t, s) {
			t.Errorf("as of now %s, served %s", got, served(t, s))
		}
	}
}

// A change of any stored record, its loss, and records that were cut off or put
// at the end, are found, and the first of them named.
func TestVerifyFindsTheFirstBrokenRecord(t *testing.T) {
	for name, c := range map[string]struct {
		tamper func(*testing.T, store.Store)
		broken uint64
	}{
		"a value is changed": {func(t *testing.T, s store.Store) {
			rewrite(t, s, 7, func(v string) string { return strings.Replace(v, "v7", "vX", 1) })
		}, 7},
		"an author is changed": {func(t *testing.T, s store.Store) {
			rewrite(t, s, 8, func(v string) string { return strings.Replace(v, "alice", "mallo", 1) })
		}, 8},
		"a record is lost": {func(t *testing.T, s store.Store) { remove(t, s, 9) }, 9},
		"the last is lost": {func(t *testing.T, s store.Store) { remove(t, s, 14) }, 14},
		"a record of the base is changed": {func(t *testing.T, s store.Store) {
			rewrite(t, s, 1, func(v string) string { return strings.Replace(v, "v1", "vX", 1) })
		}, 1},
		"a record of the base is lost": {func(t *testing.T, s store.Store) { remove(t, s, 1) }, 5},
	} {
		t.Run(name, func(t *testing.T) {
			s := bolt(t)
			l := open(t, history.Options{Store: s, MaxRecords: 10})
			ctx := store.WithAuthor(t.Context(), store.Author{Principal: "alice"})
			for i := range 13 {
				name := "a"
				if i > 0 {
					name = "b"
				}
				if _, err := l.Put(ctx, key("exports", name), fmt.Appendf(nil, "v%d", i+1), store.Any); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
			verified(t, l)
			if l.First() != 6 || l.Last() != 14 {
				t.Fatalf("records from %d to %d", l.First(), l.Last())
			}
			c.tamper(t, s)
			v, err := l.Verify(t.Context())
			if err != nil || v.OK || v.Broken != c.broken || v.Rule == "" {
				t.Errorf("Verify = %+v, %v; want record %d broken", v, err, c.broken)
			}
			if l.Broken() == "" {
				t.Error("the log does not say that it is broken")
			}
			// Writing goes on: what is recorded is all the more worth having.
			if _, err := l.Put(ctx, key("exports", "c"), []byte("1"), store.Any); err != nil {
				t.Errorf("Put into a broken history: %v", err)
			}
		})
	}
}

func recordKey(sequence int) store.Key { return key(history.Kind, fmt.Sprintf("%020d", sequence)) }

func rewrite(t *testing.T, s store.Store, sequence int, change func(string) string) {
	t.Helper()
	item, err := s.Get(t.Context(), recordKey(sequence))
	if err != nil {
		t.Fatal(err)
	}
	next := change(string(item.Value))
	if next == string(item.Value) {
		t.Fatalf("nothing to change in %s", item.Value)
	}
	if _, err := s.Put(t.Context(), item.Key, []byte(next), item.Revision); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, s store.Store, sequence int) {
	t.Helper()
	if err := s.Delete(t.Context(), recordKey(sequence), store.Any); err != nil {
		t.Fatal(err)
	}
}

// The config file's rules have a history of their own: what it says at a start
// or a reload is recorded where it differs, once, whichever process says it.
func TestConfigFileChangesAreRecorded(t *testing.T) {
	s := bolt(t)
	l := open(t, history.Options{Store: s})
	set := func(l *history.Log, rules ...history.Rule) {
		t.Helper()
		if err := l.SetConfig(t.Context(), rules); err != nil {
			t.Fatal(err)
		}
	}
	a1, b1 := history.Rule{Kind: "exports", Name: "a", Value: []byte("1")}, history.Rule{Kind: "exports", Name: "b", Value: []byte("1")}
	a2 := history.Rule{Kind: "exports", Name: "a", Value: []byte("2")}
	set(l, a1, b1)
	set(l, a1, b1)
	set(open(t, history.Options{Store: s}), b1, a1) // another replica with the same file
	set(l, a2)
	var got []string
	for i := range l.Last() {
		r, err := l.Find(t.Context(), i+1)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %s %s %s>%s", r.Principal, r.Action, r.Name, r.Before, r.After))
	}
	want := []string{"config create a >1", "config create b >1", "config replace a 1>2", "config delete b 1>"}
	if !slices.Equal(got, want) {
		t.Errorf("records %q, want %q", got, want)
	}
	state, err := l.At(t.Context(), "2")
	if err != nil || fmt.Sprintf("%s", state.Config("exports")) != "[1 1]" || len(state.Items("exports")) != 0 {
		t.Errorf("as of 2: %s, %v", state.Config("exports"), err)
	}
	many := make([]history.Rule, 500)
	for i := range many {
		many[i] = history.Rule{Kind: "intentions", Name: fmt.Sprintf("r-%03d", i), Value: make([]byte, 2000)}
	}
	set(l, many...)
	if l.Last() != 4+1+500 {
		t.Errorf("%d records after 500 rules came and one went", l.Last())
	}
	verified(t, l)
}

// as_of takes sequences and times.
func TestAsOfATime(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	l := open(t, history.Options{Store: bolt(t), Now: func() time.Time { return at }})
	for range 3 {
		if _, err := l.Put(t.Context(), key("exports", "a"), []byte(at.String()), store.Any); err != nil {
			t.Fatal(err)
		}
		at = at.Add(time.Minute)
	}
	for asOf, want := range map[string]uint64{
		"2026-11-23T11:59:59Z": 0, "2026-11-23T12:00:00Z": 1, "2026-11-23T12:00:59Z": 1, "2026-11-23T13:01:00+01:00": 2,
		"2030-01-01T00:00:00Z": 3, "0": 0, "3": 3,
	} {
		if s, err := l.At(t.Context(), asOf); err != nil || s.Sequence != want {
			t.Errorf("as of %s: %d, %v; want %d", asOf, s.Sequence, err, want)
		}
	}
	var bad *history.AsOfError
	for _, asOf := range []string{"yesterday", "-1", "", "2026-11-23"} {
		if _, err := l.At(t.Context(), asOf); !errors.As(err, &bad) {
			t.Errorf("as of %q: %v", asOf, err)
		}
	}
	if _, err := l.At(t.Context(), "4"); !errors.Is(err, history.ErrFuture) {
		t.Errorf("as of 4: %v, want ErrFuture", err)
	}
}

// Run follows what others write and compacts by itself.
func TestRunFollowsAndCompacts(t *testing.T) {
	s := bolt(t)
	l := open(t, history.Options{Store: s, MaxRecords: 20})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	other := open(t, history.Options{Store: s, MaxRecords: 20})
	for i := range 100 {
		if _, err := other.Put(t.Context(), key("exports", fmt.Sprint("r", i%7)), fmt.Append(nil, i), store.Any); err != nil {
			t.Fatal(err)
		}
	}
	kept := func() int { entries, _ := l.Feed().All(); return len(entries) }
	for deadline := time.Now().Add(20 * time.Second); l.Last() < 100 || kept() > 20+7; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d records of %d are kept after 20 s, bound 20 and a base of 7", kept(), l.Last())
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	verified(t, l)
	verified(t, other)
	if got := past(t, other, fmt.Sprint(other.Last())); got != served(t, s) {
		t.Errorf("as of now %s, served %s", got, served(t, s))
	}
}
