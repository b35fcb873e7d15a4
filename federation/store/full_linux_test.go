package store_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/store"
)

// A disk that fills up refuses writes and changes nothing; what is there is
// served, and by the next start too; with room again writes go on.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("needs to mount a small file system: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	path := filepath.Join(dir, "store.db")
	s := open(t, store.BoltOptions{Path: path})
	written, value := 0, make([]byte, 20<<10)
	var err error
	for ; written < 200 && err == nil; written++ {
		_, err = s.Put(t.Context(), store.Key{Kind: "k", Name: fmt.Sprint(written)}, value, store.Absent)
	}
	written-- // the last one was refused
	if !errors.Is(err, store.ErrNotWritable) || !errors.Is(s.Writable(), store.ErrNotWritable) {
		t.Fatalf("Put into a full disk = %v, Writable = %v", err, s.Writable())
	}
	for range 2 {
		items, _, err := s.List(t.Context(), "k")
		if err != nil || len(items) != written {
			t.Fatalf("List = %d items, %v; want %d", len(items), err, written)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = store.OpenBolt(store.BoltOptions{Path: path}); err != nil {
			t.Fatalf("a start with a full disk: %v", err)
		}
		defer func() { _ = s.Close() }()
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=8m"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), store.Key{Kind: "k", Name: "room"}, value, store.Absent); err != nil || s.Writable() != nil || len(s.Notices()) != 0 {
		t.Errorf("with room again: Put %v, Writable %v, notices %q", err, s.Writable(), s.Notices())
	}
	t.Logf("figure: %d values of 20 KiB in a disk of 1 MiB, the next refused, none lost", written)
}
