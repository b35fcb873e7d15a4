package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/store"
	"github.com/isthmus-mesh/isthmus/federation/store/storetest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, opts store.BoltOptions) *store.Bolt {
	t.Helper()
	s, err := store.OpenBolt(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestContract(t *testing.T) {
	paths := map[*testing.T]string{}
	storetest.Store(t, func(t *testing.T) store.Store {
		if paths[t] == "" {
			paths[t] = filepath.Join(t.TempDir(), "data", "store.db")
		}
		return open(t, store.BoltOptions{Path: paths[t]})
	})
}

func TestFileIsTheOwnersAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "store.db")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	open(t, store.BoltOptions{Path: path})
	for p, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		info, err := os.Stat(p)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, %v; want %v", p, info.Mode().Perm(), err, want)
		}
	}
}

func TestASecondProcessIsToldThatTheFileIsTaken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	open(t, store.BoltOptions{Path: path})
	_, err := store.OpenBolt(store.BoltOptions{Path: path})
	wantReason(t, err, store.Locked)
}

func wantReason(t *testing.T, err error, want store.OpenReason) {
	t.Helper()
	var oe *store.OpenError
	if !errors.As(err, &oe) || oe.Reason != want {
		t.Fatalf("OpenBolt = %v, want reason %q", err, want)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	s := open(t, store.BoltOptions{Path: filepath.Join(t.TempDir(), "store.db")})
	key := store.Key{Kind: "k", Name: "n"}
	for i := range store.HistoryLen + 10 {
		if _, err := s.Put(t.Context(), key, fmt.Appendf(nil, "%d", i), store.Any); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := s.Changes(t.Context(), 9); !errors.Is(err, store.ErrCompacted) {
		t.Errorf("Changes since before the history = %v, want ErrCompacted", err)
	}
	got, _, err := s.Changes(t.Context(), 10)
	if err != nil || len(got) != store.HistoryLen || got[0].Item.Revision != 11 {
		t.Errorf("Changes since its start = %d changes, %v", len(got), err)
	}
}

// fill writes some items and returns the closed file's bytes.
func fill(t *testing.T, path string) []byte {
	t.Helper()
	s := open(t, store.BoltOptions{Path: path})
	for i := range 40 {
		key := store.Key{Kind: "intentions", Name: fmt.Sprintf("rule-%d", i)}
		if _, err := s.Put(t.Context(), key, bytes.Repeat([]byte{byte('a' + i%26)}, 100), store.Absent); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A flipped byte is found, or is in a place that holds nothing: what is read is
// never anything else than what was written.
func TestAFlippedByteNeverChangesWhatIsRead(t *testing.T) {
	dir := t.TempDir()
	good := fill(t, filepath.Join(dir, "good.db"))
	want := contents(t, filepath.Join(dir, "good.db"))
	random, damaged, older := rand.New(rand.NewPCG(1, 2)), 0, 0
	for i := range 300 {
		bad := bytes.Clone(good)
		bad[random.IntN(len(bad))] ^= 1 << random.IntN(8)
		path := filepath.Join(dir, fmt.Sprintf("bad-%d.db", i))
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := store.OpenBolt(store.BoltOptions{Path: path})
		if err != nil {
			wantReason(t, err, store.Damaged)
			damaged++
			continue
		}
		items, revision, err := s.List(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		// A damaged meta page makes bbolt fall back to the transaction before.
		if revision == want.revision-1 {
			older++
		} else if fmt.Sprint(items) != want.items {
			t.Fatalf("flip %d was not found and changed what is read", i)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(path)
	}
	t.Logf("300 flips: %d refused as damaged, %d fell back to the last transaction, the rest hit nothing", damaged, older)
	if damaged == 0 {
		t.Error("no flip was found: the test flips nothing")
	}
}

type content struct {
	items    string
	revision uint64
}

func contents(t *testing.T, path string) content {
	t.Helper()
	s := open(t, store.BoltOptions{Path: path})
	items, revision, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return content{fmt.Sprint(items), revision}
}

func TestACutFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	good := fill(t, filepath.Join(dir, "good.db"))
	for _, size := range []int{1, 100, 4096, 8192, 16384, len(good) / 2, len(good) - 4096, len(good) - 1} {
		path := filepath.Join(dir, fmt.Sprintf("cut-%d.db", size))
		if err := os.WriteFile(path, good[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := store.OpenBolt(store.BoltOptions{Path: path})
		if err == nil {
			// The cut was behind the last page that is in use.
			if items, _, _ := s.List(t.Context(), ""); len(items) != 40 {
				t.Errorf("cut at %d of %d: opened with %d of 40 items", size, len(good), len(items))
			}
			_ = s.Close()
			continue
		}
		wantReason(t, err, store.Damaged)
		after, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(after, good[:size]) {
			t.Errorf("cut at %d: the damaged file was changed", size)
		}
	}
}

func TestNoiseIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	if err := os.WriteFile(path, bytes.Repeat([]byte("this is no database\n"), 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := store.OpenBolt(store.BoltOptions{Path: path})
	wantReason(t, err, store.Damaged)
}

// A file that may only be read is served from memory, and says so.
func TestReadOnlyFileServesReads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	fill(t, path)
	s := open(t, store.BoltOptions{Path: path}.WithOpenFile(func(name string, flag int, mode os.FileMode) (*os.File, error) {
		if flag&os.O_RDWR != 0 {
			return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EROFS}
		}
		return os.OpenFile(name, flag, mode)
	}))
	readOnly(t, s)
}

// A medium that fails under an open file: the write is refused and changes
// nothing, reads go on.
func TestFailingMediumServesReads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	fill(t, path)
	s := open(t, store.BoltOptions{Path: path}.WithOpenFile(func(name string, _ int, mode os.FileMode) (*os.File, error) {
		return os.OpenFile(name, os.O_RDONLY, mode) // every write to it fails with EBADF
	}))
	readOnly(t, s)
}

func readOnly(t *testing.T, s *store.Bolt) {
	t.Helper()
	_, before, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), store.Key{Kind: "intentions", Name: "new"}, []byte("x"), store.Absent); !errors.Is(err, store.ErrNotWritable) {
		t.Fatalf("Put = %v, want ErrNotWritable", err)
	}
	if err := s.Delete(t.Context(), store.Key{Kind: "intentions", Name: "rule-1"}, store.Any); !errors.Is(err, store.ErrNotWritable) {
		t.Fatalf("Delete = %v, want ErrNotWritable", err)
	}
	if err := s.Writable(); !errors.Is(err, store.ErrNotWritable) {
		t.Fatalf("Writable = %v, want ErrNotWritable", err)
	}
	items, after, err := s.List(t.Context(), "")
	if err != nil || len(items) != 40 || after != before {
		t.Fatalf("List = %d items at revision %d, %v; want 40 at %d", len(items), after, err, before)
	}
	if _, err := s.Get(t.Context(), store.Key{Kind: "intentions", Name: "rule-1"}); err != nil {
		t.Fatalf("Get: %v", err)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	item := store.Item{Key: store.Key{Kind: "exports", Name: "web"}, Value: []byte(`{"name":"web"}`), Revision: 7}
	f.Add(store.EncodeKey(item.Key), store.EncodeRecord(item))
	f.Add([]byte("k"), []byte{})
	f.Fuzz(func(t *testing.T, key, record []byte) {
		got, err := store.DecodeRecord(key, record)
		if err != nil {
			return
		}
		if !bytes.Equal(store.EncodeKey(got.Key), key) || !bytes.Equal(store.EncodeRecord(got), record) {
			t.Errorf("%q, %q decodes to %+v, which encodes to something else", key, record, got)
		}
	})
}
