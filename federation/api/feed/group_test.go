package feed_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/api/feed"
	"pgregory.net/rapid"
)

// group makes the entries "g/k" of one group's content.
func group(prefix string, content map[string]string) feed.Group[string] {
	prefix += "/"
	without := func(content, other map[string]string) (out []feed.Entry[string]) {
		for _, k := range slices.Sorted(maps.Keys(content)) {
			if v, there := other[k]; !there || v != content[k] {
				out = append(out, feed.Entry[string]{Key: prefix + k, Item: content[k]})
			}
		}
		return out
	}
	g := feed.Group[string]{Prefix: prefix, Len: len(content), Of: content, Make: func() []feed.Entry[string] { return without(content, nil) }}
	if len(content) > 1 { // some groups know what differs, and some of those only at times
		g.Differ = func(was *feed.Group[string]) (old, fresh []feed.Entry[string], ok bool) {
			before := was.Of.(map[string]string)
			return without(before, content), without(content, before), len(before) > 0
		}
	}
	return g
}

// A feed that is edited group by group says what one says that is replaced by
// the whole list each time: list, items, pages, and changes.
func TestEditsAreReplaces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		edited, replaced := feed.New(7, equal), feed.New(7, equal)
		content := map[string]map[string]string{}
		_, seen := edited.All()
		mirror := map[string]string{}
		for range rapid.IntRange(1, 12).Draw(t, "edits") {
			var puts []feed.Group[string]
			var removes []string
			for _, g := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "a-b", "aa", "b"}), 0, 3, rapid.ID).Draw(t, "groups") {
				if rapid.IntRange(0, 3).Draw(t, "remove") == 0 {
					delete(content, g)
					removes = append(removes, g+"/")
					continue
				}
				content[g] = rapid.MapOfN(rapid.StringMatching("[a-d]{1,2}"), rapid.StringMatching("[xyz]"), 0, 4).Draw(t, "content")
				puts = append(puts, group(g, content[g]))
			}
			edited.Edit(puts, removes)
			list := map[string]string{}
			for g, of := range content {
				for k, v := range of {
					list[g+"/"+k] = v
				}
			}
			replaced.Replace(sorted(list))
			check(t, edited, replaced, list)
			changes, revision, _, err := edited.Since(seen)
			if err != nil {
				t.Fatal(err)
			}
			seen = revision
			for _, c := range changes {
				if mirror[c.Key] = c.Item; c.Deleted {
					delete(mirror, c.Key)
				}
			}
			if !maps.Equal(mirror, list) {
				t.Fatalf("changes lead to %v, the list is %v", mirror, list)
			}
		}
	})
}

func check(t *rapid.T, edited, replaced *feed.Feed[string], list map[string]string) {
	got, _ := edited.All()
	want, _ := replaced.All()
	if !slices.Equal(got, want) {
		t.Fatalf("list %v, want %v", got, want)
	}
	each, _ := edited.Entries()
	if all := slices.Collect(each); !slices.Equal(all, want) {
		t.Fatalf("entries %v, want %v", all, want)
	}
	for _, key := range []string{"", "a", "a/", "a/b", "a-b/c", "aa/dd", "b/a", "z"} {
		item, ok := edited.Get(key)
		if wanted, known := list[key]; item != wanted || ok != known {
			t.Fatalf("%q: %q %v, want %q %v", key, item, ok, wanted, known)
		}
		limit := rapid.IntRange(1, 5).Draw(t, "limit")
		a, more, _ := edited.Page(key, limit, nil)
		b, moreB, _ := replaced.Page(key, limit, nil)
		if !slices.Equal(a, b) || more != moreB {
			t.Fatalf("page after %q: %v %v, want %v %v", key, a, more, b, moreB)
		}
		in, _, _ := edited.PageIn(key, "", 100, nil)
		for _, e := range want {
			if strings.HasPrefix(e.Key, key) != slices.Contains(in, e) {
				t.Fatalf("entries with prefix %q: %v of %v", key, in, want)
			}
		}
	}
}

// What is too much to tell one by one is a new beginning.
func TestALargeEditIsANewBeginning(t *testing.T) {
	f := feed.New(0, equal)
	_, before := f.All()
	content := map[string]string{}
	for i := range feed.HistoryLen + 1 {
		content[fmt.Sprintf("%06d", i)] = "x"
	}
	f.Edit([]feed.Group[string]{group("a", content)}, nil)
	if _, _, _, err := f.Since(before); !errors.Is(err, feed.ErrGone) {
		t.Errorf("a reader of before is told %v", err)
	}
	_, now := f.All()
	if changes, _, _, err := f.Since(now); err != nil || len(changes) != 0 {
		t.Errorf("a reader of now is told %d changes, %v", len(changes), err)
	}
}
