package store_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/store"
)

// filled writes items and records in transactions and returns what is read back.
func filled(t *testing.T, path string) string {
	t.Helper()
	s := open(t, store.BoltOptions{Path: path})
	for i := range 12 {
		_, err := s.Apply(t.Context(),
			store.Write{Key: store.Key{Kind: "intentions", Name: fmt.Sprintf("rule-%d", i%5)}, Value: fmt.Appendf(nil, "value %d", i), Expect: store.Any},
			store.Write{Key: store.Key{Kind: store.ArchivePrefix + "log", Name: fmt.Sprintf("%04d", i)}, Value: bytes.Repeat([]byte{byte('a' + i)}, 40), Expect: store.Absent})
		if err != nil {
			t.Fatal(err)
		}
	}
	return closeAndTell(t, s)
}

// closeAndTell is everything that a store says, as text.
func closeAndTell(t *testing.T, s *store.Bolt) string {
	t.Helper()
	items, revision, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	records, err := s.Scan(t.Context(), store.ArchivePrefix+"log", "", store.MaxScan)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(revision, items, records)
}

func copyFiles(t *testing.T, from, to string) {
	t.Helper()
	for _, suffix := range []string{"", ".journal"} {
		data, err := os.ReadFile(from + suffix)
		if err == nil {
			err = os.WriteFile(to+suffix, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// One flipped bit at every place that holds something, in the file and in its
// journal: everything that was acknowledged is served, nothing else, and the
// operator is told of every damage.
func TestOneFlippedByteAnywhereLosesNothing(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good.db")
	want := filled(t, good)
	for _, suffix := range []string{"", ".journal"} {
		whole, err := os.ReadFile(good + suffix)
		if err != nil {
			t.Fatal(err)
		}
		flips, rebuilt, step := 0, 0, 1
		if suffix == "" {
			step = 9 // most of a page is empty
		}
		for at := 0; at < len(whole); at += step {
			if whole[at] == 0 && at%127 != 0 {
				continue // nearly all of them are the empty part of a page
			}
			flips++
			sub := filepath.Join(dir, "flip")
			if err := os.MkdirAll(sub, 0o700); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(sub, "store.db")
			copyFiles(t, good, path)
			bad := bytes.Clone(whole)
			bad[at] ^= 1 << (at % 8)
			if err := os.WriteFile(path+suffix, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := store.OpenBolt(store.BoltOptions{Path: path}.WithoutSync())
			if err != nil {
				t.Fatalf("%q: a bit of byte %d is flipped: %v", suffix, at, err)
			}
			told := len(s.Notices()) > 0
			if got := closeAndTell(t, s); got != want {
				t.Fatalf("%q: with a bit of byte %d flipped the store says\n%.300s\nwant\n%.300s", suffix, at, got, want)
			}
			aside, err := filepath.Glob(path + ".damaged-*")
			if err != nil || told != (len(aside) > 0) {
				t.Fatalf("%q: byte %d: files set aside %v, and told %v", suffix, at, aside, told)
			}
			rebuilt += len(aside)
			if err := os.RemoveAll(sub); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("figure: store%s: %d flips, %d rebuilt from the other copy, 0 changed or lost", suffix, flips, rebuilt)
		if suffix == "" && rebuilt == 0 {
			t.Error("no flip was found: the test flips nothing")
		}
	}
}

// A file that is cut, empty or noise is rebuilt whole, once; the next start finds
// it whole and goes on telling until the operator has removed the old one.
func TestADamagedFileIsRebuiltFromItsJournal(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"cut":   func(b []byte) []byte { return b[:len(b)/2] },
		"noise": func(b []byte) []byte { return bytes.Repeat([]byte("noise\n"), len(b)/6) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store.db")
			want := filled(t, path)
			data, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(path, damage(data), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				s := open(t, store.BoltOptions{Path: path})
				notices := s.Notices()
				if len(notices) != 1 || !strings.Contains(notices[0], path+".damaged-1") {
					t.Errorf("Notices = %q", notices)
				}
				if got := closeAndTell(t, s); got != want {
					t.Fatalf("rebuilt store says %.300s, want %.300s", got, want)
				}
			}
			if kept, err := os.ReadFile(path + ".damaged-1"); err != nil || !bytes.Equal(kept, damage(data)) {
				t.Errorf("the damaged file was not kept as it was: %v", err)
			}
			if err := os.Remove(path + ".damaged-1"); err != nil {
				t.Fatal(err)
			}
			s := open(t, store.BoltOptions{Path: path})
			if n := s.Notices(); len(n) != 0 {
				t.Errorf("Notices after the file was removed = %q", n)
			}
			put := store.Key{Kind: "intentions", Name: "after"}
			if _, err := s.Put(t.Context(), put, []byte("x"), store.Absent); err != nil {
				t.Errorf("a rebuilt store takes no write: %v", err)
			}
		})
	}
}

// A file that an operator has restored from a backup is older than the journal
// beside it, and holds all the same.
func TestARestoredBackupHolds(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "store.db")
	want := filled(t, path)
	backup, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, store.BoltOptions{Path: path})
	for i := range 3 {
		if _, err := s.Put(t.Context(), store.Key{Kind: "intentions", Name: "later"}, fmt.Append(nil, i), store.Any); err != nil {
			t.Fatal(err)
		}
	}
	closeAndTell(t, s)
	if err := os.WriteFile(path, backup, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := closeAndTell(t, open(t, store.BoltOptions{Path: path})); got != want {
		t.Fatalf("restored store says %.300s, want %.300s", got, want)
	}
	if _, err := os.Stat(path + ".journal.before-restore"); err != nil {
		t.Errorf("the journal of the lost changes was not kept: %v", err)
	}
}

// A journal that has lost its end, as by a crash in the middle of a write, is
// made whole from the file.
func TestATornJournalIsMadeWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	want := filled(t, path)
	journal, err := os.ReadFile(path + ".journal")
	if err != nil {
		t.Fatal(err)
	}
	for _, cut := range []int{0, 1, 17, len(journal) / 2, len(journal) - 1} {
		if err := os.WriteFile(path+".journal", journal[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, store.BoltOptions{Path: path})
		if n := s.Notices(); len(n) != 0 {
			t.Errorf("journal cut at %d: notices %q", cut, n)
		}
		if got := closeAndTell(t, s); got != want {
			t.Fatalf("journal cut at %d: the store says %.300s", cut, got)
		}
		// The proof that it is whole: the file is rebuilt from it.
		if err := os.WriteFile(path, []byte("noise"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := closeAndTell(t, open(t, store.BoltOptions{Path: path})); got != want {
			t.Fatalf("journal cut at %d: rebuilt store says %.300s", cut, got)
		}
		if err := os.Remove(path + ".damaged-1"); err != nil {
			t.Fatal(err)
		}
	}
}

// Journals of long lives stay bounded, and copies all the same.
func TestTheJournalIsMadeAnewWhenItHasGrown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, store.BoltOptions{Path: path}.WithoutSync())
	value := make([]byte, 100<<10)
	for i := range 60 {
		value[0] = byte(i)
		if _, err := s.Put(t.Context(), store.Key{Kind: "k", Name: "n"}, value, store.Any); err != nil {
			t.Fatal(err)
		}
	}
	want := closeAndTell(t, s)
	info, err := os.Stat(path + ".journal")
	if err != nil || info.Size() > 2<<20 {
		t.Fatalf("journal of one item of 100 KiB has %d bytes, %v", info.Size(), err)
	}
	if err := os.Truncate(path, 5); err != nil {
		t.Fatal(err)
	}
	if got := closeAndTell(t, open(t, store.BoltOptions{Path: path})); got != want {
		t.Error("the journal is no copy")
	}
}
