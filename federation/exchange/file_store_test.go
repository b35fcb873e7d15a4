package exchange_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/exchange"
)

func newFileStore(t *testing.T, dir string) *exchange.FileStore {
	t.Helper()
	s, err := exchange.NewFileStore(dir, "gcp")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func load(s *exchange.FileStore) (got string, skipped, err error) {
	skipped, err = s.Load(func(b []byte) error { got = string(b); return nil })
	return got, skipped, err
}

func TestFileStoreKeepsTheLastThree(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "here")
	s := newFileStore(t, dir)
	if got, skipped, err := load(s); got != "" || skipped != nil || err != nil {
		t.Errorf("empty: %q, %v, %v", got, skipped, err)
	}
	// Another peer's files, and what is no state, are left alone.
	others := []string{"gcp-2.000000000001.state", "gcp.txt", "gcp.x.state"}
	for _, o := range others {
		if err := os.WriteFile(filepath.Join(dir, o), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		if err := s.Save(fmt.Appendf(nil, "state %d\nmore", i)); err != nil {
			t.Fatal(err)
		}
		if i == 2 {
			s = newFileStore(t, dir) // another process
		}
	}
	got, skipped, err := load(s)
	if got != "state 4\nmore" || skipped != nil || err != nil {
		t.Errorf("%q, %v, %v", got, skipped, err)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 3+len(others) {
		t.Errorf("files: %v", entries)
	}
	for _, e := range entries {
		if info, _ := e.Info(); info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
	}
	// What the reader refuses is passed over, the newest first.
	var seen []string
	skipped, err = s.Load(func(b []byte) error {
		seen = append(seen, string(b[:7]))
		if len(seen) < 3 {
			return errors.New("not this one")
		}
		return nil
	})
	if want := []string{"state 4", "state 3", "state 2"}; !slices.Equal(seen, want) || skipped == nil || err != nil {
		t.Errorf("%v, %v, %v", seen, skipped, err)
	}
	if _, err = s.Load(func([]byte) error { return errors.New("no") }); err == nil {
		t.Error("all were refused, and that is no error")
	}
	if err := s.Remove(); err != nil {
		t.Error(err)
	}
	if entries, _ = os.ReadDir(dir); len(entries) != len(others) {
		t.Errorf("after Remove: %v", entries)
	}
}

// Each byte of a state that is flipped, and each place where it is cut, is
// found; the state before it is used.
func TestFileStoreFindsEveryDamage(t *testing.T) {
	dir := t.TempDir()
	s := newFileStore(t, dir)
	for _, state := range []string{"older", "newer"} {
		if err := s.Save([]byte(state)); err != nil {
			t.Fatal(err)
		}
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.state"))
	newest := files[len(files)-1]
	good, err := os.ReadFile(newest)
	if err != nil || !strings.HasSuffix(string(good), "newer") {
		t.Fatalf("%q, %v", good, err)
	}
	damage := func(label string, bad []byte) {
		if err := os.WriteFile(newest, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, skipped, err := load(s); got != "older" || skipped == nil || err != nil {
			t.Errorf("%s: %q, %v, %v", label, got, skipped, err)
		}
	}
	for i := range good {
		bad := slices.Clone(good)
		bad[i] ^= 1
		damage(fmt.Sprintf("byte %d", i), bad)
		damage(fmt.Sprintf("cut at %d", i), good[:i])
	}
	damage("longer", append(slices.Clone(good), 'x'))
}

func TestFileStoreOnABadDisk(t *testing.T) {
	if _, err := exchange.NewFileStore(t.TempDir(), "GCP"); err == nil {
		t.Error("a name that is no cluster's is accepted")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := exchange.NewFileStore(file, "gcp"); err == nil {
		t.Error("a file is taken as a directory")
	}
	dir := filepath.Join(t.TempDir(), "d")
	s := newFileStore(t, dir)
	if err := s.Save([]byte("good")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "gcp.000000000002.state.tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Save([]byte("lost")); err == nil {
		t.Error("a write that cannot be is reported as done")
	}
	if got, _, err := load(s); got != "good" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Save([]byte("x")); err == nil {
		t.Error("the directory is gone, and that is no error")
	}
	if _, _, err := load(s); err == nil {
		t.Error("the directory is gone, and that is no error")
	}
}
