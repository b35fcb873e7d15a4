package crashtest

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// disk runs the case on a small file system of its own: filled up to the last
// byte, then mounted read-only, then with room again.
func (c Case) disk(t *testing.T) {
	dir := t.TempDir()
	const size = "size=2m"
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, size); err != nil {
		t.Skipf("needs the right to mount a small file system: %v; the same failures were injected at each step above", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	remount := func(flags uintptr) {
		t.Helper()
		if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|flags, size); err != nil {
			t.Fatal(err)
		}
	}
	kept := filepath.Join(dir, "kept")
	if err := os.Mkdir(kept, 0o700); err != nil {
		t.Fatal(err)
	}
	c.prepare(t, kept, Before)
	filler := filepath.Join(dir, "filler")
	fill(t, filler)
	full := c.Write(t, kept, After)
	state, said, err := c.Read(t, kept)
	if err != nil || state != Before && state != After || full == nil && state != After {
		t.Errorf("full disk (%v): %q serves, said %q, %v", full, state, said, err)
	}
	if full == nil {
		t.Log("the write had room within what was there")
	}
	was := state
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	remount(syscall.MS_RDONLY)
	if err := c.Write(t, kept, After); err == nil && was != After {
		t.Error("a write to a read-only disk is acknowledged")
	}
	if state, said, err := c.Read(t, kept); err != nil || state != was {
		t.Errorf("read-only disk: %q serves, said %q, %v; before it was %q", state, said, err, was)
	}
	remount(0)
	c.goesOn(t, kept, "with room again")
	t.Logf("figure: %s: full disk: %v; read-only: served", c.Point, full)
}

// fill leaves not one byte.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for _, chunk := range []int{64 << 10, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, chunk))
		}
	}
}
