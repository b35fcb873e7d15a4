package store_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/store"
)

// bbolt writes a transaction out of sight: its pages in any order, a sync, one of
// two meta pages, a sync. A crash leaves any of the pages written and others not,
// and cuts a page where it likes. Each such image opens as the state of before,
// without a word of damage, until the meta page is whole.
func TestEveryImageOfATransaction(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "store.db")
	put := func(value string) {
		s := open(t, store.BoltOptions{Path: path})
		for i := range 4 { // pages of several buckets
			_, err := s.Apply(t.Context(),
				store.Write{Key: store.Key{Kind: "exports", Name: fmt.Sprint(i)}, Value: bytes.Repeat([]byte(value), 300), Expect: store.Any},
				store.Write{Key: store.Key{Kind: store.ArchivePrefix + "log", Name: value + fmt.Sprint(i)}, Value: []byte(value), Expect: store.Absent})
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	put("old")
	put("mid") // pages that are free again
	before, journal := read(t, path), read(t, path+".journal")
	s := open(t, store.BoltOptions{Path: path})
	key := store.Key{Kind: "exports", Name: "0"}
	if _, err := s.Put(t.Context(), key, []byte("new"), store.Any); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	after := read(t, path)
	if len(before) != len(after) {
		t.Fatalf("the file grew from %d to %d: the pages cannot be compared", len(before), len(after))
	}
	size := os.Getpagesize()
	var pages []int // that differ; 0 and 1 are the meta pages
	for p := 0; p < len(before)/size; p++ {
		if !bytes.Equal(before[p*size:(p+1)*size], after[p*size:(p+1)*size]) {
			pages = append(pages, p)
		}
	}
	meta := pages[0]
	if pages = pages[1:]; meta > 1 || len(pages) == 0 || pages[0] < 2 || len(pages) > 10 {
		t.Fatalf("meta page %d, pages %v", meta, pages)
	}
	images := 0
	judge := func(image []byte, wantNew bool, what string) {
		t.Helper()
		images++
		at := filepath.Join(t.TempDir(), "store.db")
		if err := os.WriteFile(at, image, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at+".journal", journal, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := store.OpenBolt(store.BoltOptions{Path: at}.WithoutSync())
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		defer func() { _ = s.Close() }()
		item, err := s.Get(t.Context(), key)
		if isNew := string(item.Value) == "new"; err != nil || isNew != wantNew || len(s.Notices()) > 0 {
			t.Fatalf("%s: new %t, want %t, notices %q, %v", what, isNew, wantNew, s.Notices(), err)
		}
	}
	write := func(image []byte, page, bytes int) { copy(image[page*size:page*size+bytes], after[page*size:]) }
	for set := range 1 << len(pages) {
		image := bytes.Clone(before)
		for i, p := range pages {
			if set&(1<<i) != 0 {
				write(image, p, size)
			}
		}
		judge(image, false, fmt.Sprintf("pages %b of %v", set, pages))
	}
	const sector = 512
	for _, p := range pages {
		for cut := sector; cut < size; cut += sector {
			image := bytes.Clone(before)
			write(image, p, cut)
			judge(image, false, fmt.Sprintf("%d bytes of page %d", cut, p))
		}
	}
	whole := bytes.Clone(before)
	for _, p := range pages {
		write(whole, p, size)
	}
	last := 0 // the last byte of the meta page that differs
	for i := range size {
		if before[meta*size+i] != after[meta*size+i] {
			last = i + 1
		}
	}
	for cut := 0; cut <= last; cut++ {
		image := bytes.Clone(whole)
		write(image, meta, cut)
		judge(image, cut == last, fmt.Sprintf("%d of %d bytes of the meta page", cut, last))
	}
	t.Logf("figure: %d images of a transaction that a crash can leave: the state of before or the new one, 0 torn, none called damaged", images)
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
