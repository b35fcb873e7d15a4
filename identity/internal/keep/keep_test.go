package keep_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/identity/internal/keep"
)

func TestWriteReplacesWholeFilesWithTheirMode(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, mode := range []fs.FileMode{keep.Private, 0o644} {
		for _, content := range []string{"one", "another, longer", ""} {
			if err := keep.Write("test", path, []byte(content), mode); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if err != nil || string(got) != content {
				t.Fatalf("got %q, %v", got, err)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
				t.Fatalf("mode %v, %v", info.Mode(), err)
			}
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("left behind: %v, %v", entries, err)
	}
}

func TestFailedWriteLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "taken")
	if err := os.Mkdir(path, 0o700); err != nil { // a rename over a directory fails
		t.Fatal(err)
	}
	if err := keep.Write("test", path, []byte("x"), keep.Private); err == nil {
		t.Fatal("wrote over a directory")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("left behind: %v, %v", entries, err)
	}
	if err := keep.Write("test", filepath.Join(dir, "none", "file"), nil, keep.Private); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
}

func TestReadPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if _, err := keep.ReadPrivate(path, 10); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
	if err := keep.Write("test", path, []byte("0123456789"), keep.Private); err != nil {
		t.Fatal(err)
	}
	if got, err := keep.ReadPrivate(path, 10); err != nil || string(got) != "0123456789" {
		t.Fatalf("got %q, %v", got, err)
	}
	if _, err := keep.ReadPrivate(path, 9); !errors.Is(err, keep.ErrCorrupt) {
		t.Errorf("larger than the limit: %v", err)
	}
	for _, mode := range []fs.FileMode{0o604, 0o620, 0o644, 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := keep.ReadPrivate(path, 10); !errors.Is(err, keep.ErrMode) {
			t.Errorf("mode %#o: %v", mode, err)
		}
	}
	if os.Geteuid() == 0 { // only root can give a file away
		if err := errors.Join(os.Chmod(path, keep.Private), os.Chown(path, 65534, -1)); err != nil {
			t.Fatal(err)
		}
		if _, err := keep.ReadPrivate(path, 10); !errors.Is(err, keep.ErrMode) || !strings.Contains(err.Error(), "65534") {
			t.Errorf("owned by another: %v", err)
		}
	}
}

func TestLockIsExclusive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	release, err := keep.Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keep.Lock(path); !errors.Is(err, keep.ErrLocked) {
		t.Fatalf("got %v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	release, err = keep.Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
}

func TestLoadSaysWhatIsDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := keep.Save("test", path, "kind", []byte("body")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := keep.Load("test", path, "kind", 3); !errors.Is(err, keep.ErrCorrupt) {
		t.Errorf("larger than the limit: %v", err)
	}
	if _, _, err := keep.Load("test", path, "other", 10); !errors.Is(err, keep.ErrCorrupt) {
		t.Errorf("another kind: %v", err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(good)
	bad[len(bad)-1] ^= 1
	if err := os.WriteFile(path, bad, keep.Private); err != nil {
		t.Fatal(err)
	}
	for _, damaged := range []bool{true, false} { // the first time mends it
		body, damage, err := keep.Load("test", path, "kind", 10)
		if err != nil || string(body) != "body" || errors.Is(damage, keep.ErrCorrupt) != damaged {
			t.Errorf("got %q, damage %v, %v", body, damage, err)
		}
	}
}
