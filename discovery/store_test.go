package discovery_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery"
)

func newStore(t *testing.T, dir string) *discovery.Store {
	t.Helper()
	s, err := discovery.NewStore(dir, "test")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// saved lists the snapshot files, the oldest first.
func saved(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "test.*.snapshot"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestStoreKeepsTheLastThree(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "sources")
	s := newStore(t, dir)
	if v, err := s.Load(); err != nil || v.Snapshot != nil {
		t.Fatalf("an empty store gave %v, %v", v, err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range 5 {
		if i == 3 {
			s = newStore(t, dir) // a new process goes on
		}
		if err := s.Save(at.Add(time.Duration(i)*time.Hour), world{"a": ids("a", i)}.snapshot(t)); err != nil {
			t.Fatal(err)
		}
	}
	if files := saved(t, dir); len(files) != 3 {
		t.Errorf("kept %v", files)
	}
	v, err := s.Load()
	if err != nil || v.Snapshot.EndpointCount() != 4 || !v.At.Equal(at.Add(4*time.Hour)) {
		t.Errorf("got %d endpoints of %v, %v", v.Snapshot.EndpointCount(), v.At, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 {
		t.Errorf("left %v, %v", entries, err)
	}
}

// Every byte of the newest file, flipped: the one before is loaded, and said so.
func TestStoreSkipsACorruptFile(t *testing.T) {
	dir := t.TempDir()
	s := newStore(t, dir)
	for i := range 3 {
		if err := s.Save(time.Unix(0, 0), world{"a": ids("a", i+1)}.snapshot(t)); err != nil {
			t.Fatal(err)
		}
	}
	newest := saved(t, dir)[2]
	good, err := os.ReadFile(newest)
	if err != nil {
		t.Fatal(err)
	}
	check := func(name string, data []byte, wantEndpoints int) {
		t.Helper()
		if err := os.WriteFile(newest, data, 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := s.Load()
		if err == nil || !strings.Contains(err.Error(), newest) {
			t.Fatalf("%s: the error is %v", name, err)
		}
		if v.Snapshot.EndpointCount() != wantEndpoints {
			t.Fatalf("%s: got %d endpoints", name, v.Snapshot.EndpointCount())
		}
	}
	for i := range good {
		for _, bit := range []byte{1, 0x20, 0x80} {
			bad := append([]byte(nil), good...)
			bad[i] ^= bit
			check("flipped", bad, 2)
		}
	}
	for i := range len(good) {
		check("cut", good[:i], 2)
	}
	for _, f := range saved(t, dir) {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	check("all", nil, 0)
	if err := s.Save(time.Unix(0, 0), world{"a": ids("a", 7)}.snapshot(t)); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Load(); err != nil || v.Snapshot.EndpointCount() != 7 {
		t.Errorf("after a new save: %v, %v", v, err)
	}
}

func TestStoreReportsAFullOrReadOnlyDisk(t *testing.T) {
	dir := t.TempDir()
	s := newStore(t, dir)
	if err := s.Save(time.Unix(0, 0), world{"a": {"1"}}.snapshot(t)); err != nil {
		t.Fatal(err)
	}
	// A folder in the place of the temporary file: as root, permissions alone stop nobody.
	// It is not empty, since what a crash left there is removed.
	block := filepath.Join(dir, "test.000000000002.snapshot.tmp", "full")
	if err := os.MkdirAll(block, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(time.Unix(0, 0), world{"a": {"1", "2"}}.snapshot(t)); err == nil {
		t.Fatal("no error")
	}
	if v, err := s.Load(); err != nil || v.Snapshot.EndpointCount() != 1 {
		t.Errorf("the last good one is gone: %v, %v", v, err)
	}
	if _, err := discovery.NewStore(dir, "No Label"); err == nil {
		t.Error("a name that is no label was accepted")
	}
	if _, err := discovery.NewStore("/dev/null/x", "test"); err == nil {
		t.Error("a folder that cannot exist was accepted")
	}
}

func FuzzStoreFile(f *testing.F) {
	dir := f.TempDir()
	s, err := discovery.NewStore(dir, "test")
	if err != nil {
		f.Fatal(err)
	}
	if err := s.Save(time.Unix(0, 0), world{"a": {"1"}}.snapshot(f)); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "test.000000000001.snapshot"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := discovery.DecodeSaved(data)
		if err != nil {
			return
		}
		for svc := range v.Snapshot.All() {
			if svc.Validate() != nil {
				t.Fatal("an invalid service was read")
			}
		}
	})
}
