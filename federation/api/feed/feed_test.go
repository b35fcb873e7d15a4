package feed_test

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/api/feed"
	"pgregory.net/rapid"
)

func equal(a, b string) bool { return a == b }

func sorted(m map[string]string) []feed.Entry[string] {
	var out []feed.Entry[string]
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, feed.Entry[string]{Key: k, Item: m[k]})
	}
	return out
}

// However a reader splits its visits, the changes that it is told lead from what
// it had to what there is.
func TestChangesLeadToTheList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := feed.New(rapid.Uint64Range(0, 1<<40).Draw(t, "base"), equal)
		_, seen := f.All()
		mirror := map[string]string{}
		for range rapid.IntRange(1, 20).Draw(t, "replaces") {
			list := rapid.MapOfN(rapid.StringMatching("[a-e]"), rapid.StringMatching("[xyz]"), 0, 5).Draw(t, "list")
			f.Replace(sorted(list))
			if rapid.Bool().Draw(t, "read now") {
				changes, revision, _, err := f.Since(seen)
				if err != nil {
					t.Fatal(err)
				}
				for _, c := range changes {
					if c.Revision <= seen {
						t.Fatalf("revision %d after %d", c.Revision, seen)
					}
					seen = c.Revision
					if c.Deleted {
						delete(mirror, c.Key)
					} else {
						mirror[c.Key] = c.Item
					}
				}
				if revision != seen {
					t.Fatalf("changes end at %d, revision is %d", seen, revision)
				}
				if !maps.Equal(mirror, list) {
					t.Fatalf("mirror %v, list %v", mirror, list)
				}
			}
		}
	})
}

// Pages put together are the list, whatever their size.
func TestPagesAreTheList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.MapOfN(rapid.StringMatching("[a-z]{1,3}"), rapid.StringMatching("[xyz]"), 0, 30).Draw(t, "list")
		limit := rapid.IntRange(1, 10).Draw(t, "limit")
		f := feed.New(0, equal)
		f.Replace(sorted(list))
		keep := func(s string) bool { return s != "z" }
		var got []feed.Entry[string]
		for after, more := "", true; more; {
			var page []feed.Entry[string]
			page, more, _ = f.Page(after, limit, keep)
			if len(page) > limit || (more && len(page) != limit) {
				t.Fatalf("page of %d, limit %d, more %v", len(page), limit, more)
			}
			got = append(got, page...)
			if more {
				after = page[len(page)-1].Key
			}
		}
		maps.DeleteFunc(list, func(_, v string) bool { return !keep(v) })
		if !slices.Equal(got, sorted(list)) {
			t.Fatalf("pages %v, list %v", got, sorted(list))
		}
	})
}

func TestPageGoesOnAfterAKeyThatHasGone(t *testing.T) {
	f := feed.New(0, equal)
	f.Replace(sorted(map[string]string{"a": "1", "c": "3", "d": "4"}))
	page, more, _ := f.Page("b", 10, nil)
	if more || len(page) != 2 || page[0].Key != "c" {
		t.Fatalf("page after b = %v, more %v", page, more)
	}
}

func TestOnlyChangesAreTold(t *testing.T) {
	f := feed.New(0, equal)
	list := sorted(map[string]string{"a": "1", "b": "2"})
	f.Replace(list)
	_, before := f.All()
	_, _, wait, err := f.Since(before)
	if err != nil {
		t.Fatal(err)
	}
	f.Replace(slices.Clone(list))
	if _, after := f.All(); after != before {
		t.Errorf("an equal list moved the revision from %d to %d", before, after)
	}
	select {
	case <-wait:
		t.Error("an equal list woke the readers")
	default:
	}
	f.Replace(nil)
	<-wait
	changes, _, _, err := f.Since(before)
	if err != nil || len(changes) != 2 || !changes[0].Deleted || !changes[1].Deleted {
		t.Errorf("changes = %+v, %v; want two deletions", changes, err)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	f := feed.New(100, equal)
	_, start := f.All()
	for i := range 3 * feed.HistoryLen {
		f.Append(feed.Entry[string]{Key: fmt.Sprintf("%08d", i), Item: "x"}, 10)
	}
	if _, _, _, err := f.Since(start); !errors.Is(err, feed.ErrGone) {
		t.Errorf("Since the start = %v, want ErrGone", err)
	}
	_, now := f.All()
	changes, _, _, err := f.Since(now - feed.HistoryLen)
	if err != nil || len(changes) != feed.HistoryLen {
		t.Errorf("Since the last %d = %d changes, %v", feed.HistoryLen, len(changes), err)
	}
	for _, foreign := range []uint64{0, 99, now + 1} {
		if _, _, _, err := f.Since(foreign); !errors.Is(err, feed.ErrGone) {
			t.Errorf("Since(%d) = %v, want ErrGone", foreign, err)
		}
	}
	all, _ := f.All()
	if len(all) != 10 || !slices.IsSortedFunc(all, func(a, b feed.Entry[string]) int { return cmp.Compare(a.Key, b.Key) }) {
		t.Errorf("journal holds %d entries, want the last 10 in order", len(all))
	}
}

// What the caller knows to be equal is taken and not told, and nothing else is
// hidden by it.
func TestWhatIsKnownToBeEqualIsNotCompared(t *testing.T) {
	compared := 0
	f := feed.New(0, func(a, b string) bool {
		compared++
		return a == b
	})
	f.Replace(sorted(map[string]string{"a": "1", "b": "1", "c": "1"}))
	_, before := f.All()
	f.ReplaceBut(sorted(map[string]string{"a": "1 again", "b": "2", "d": "1"}), map[string]bool{"a": true, "d": true})
	changes, _, _, err := f.Since(before)
	if err != nil || len(changes) != 3 || changes[0].Key != "b" || !changes[1].Deleted || changes[2].Key != "d" {
		t.Errorf("changes %+v, %v", changes, err)
	}
	if item, _ := f.Get("a"); item != "1 again" || compared != 1 {
		t.Errorf("item %q after %d comparisons", item, compared)
	}
}
