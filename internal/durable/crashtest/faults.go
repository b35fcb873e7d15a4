package crashtest

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/durable"
)

// failures makes each step fail in turn, and all that follow it: the disk is full,
// or read-only, from there on. A write that is refused, or that is acknowledged
// because what failed was only tidying up, leaves a whole state.
func (c Case) failures(t *testing.T, why error) {
	steps := len(c.steps(t, Before, After))
	refused := 0
	for k := 1; k <= steps; k++ {
		dir := t.TempDir()
		c.prepare(t, dir, Before)
		var mu sync.Mutex
		n := 0
		stop := durable.Watch(func(s durable.Step) error {
			mu.Lock()
			defer mu.Unlock()
			if s.Point != c.Point {
				return nil
			}
			if n++; n < k {
				return nil
			}
			return &fs.PathError{Op: string(s.Op), Path: s.Path, Err: why}
		})
		err := c.Write(t, dir, After)
		// What the disk holds is read while nothing can be written.
		state, said, readErr := c.Read(t, dir)
		stop()
		if err != nil {
			refused++
		}
		if readErr != nil || state != Before && state != After || err == nil && state != After {
			t.Errorf("step %d fails (%v): %q serves, said %q, %v", k, err, state, said, readErr)
		}
		c.goesOn(t, dir, "after a failure")
	}
	if refused == 0 {
		t.Errorf("none of %d failures was told", steps)
	}
	t.Logf("figure: %s: %v from each of %d steps on, %d writes refused, the state of before or the new one served", c.Point, why, steps, refused)
}

// flips changes one bit of each byte of each file, one at a time.
func (c Case) flips(t *testing.T) {
	dir := t.TempDir()
	c.prepare(t, dir, Before)
	c.prepare(t, dir, After)
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		files[path], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	flipped, told, olds := 0, 0, 0
	for path, data := range files {
		for i := 0; i < len(data); i += c.stride(len(data)) {
			restore(t, dir, files)
			bad := bytes.Clone(data)
			bad[i] ^= 1 << (i % 8)
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if c.Remade {
				if err := c.Write(t, dir, After); err != nil {
					t.Fatal(err)
				}
			}
			flipped++
			state, said, err := c.Read(t, dir)
			if err != nil || state != After && state != Before || state == Before && said == "" {
				t.Fatalf("byte %d of %d of %s: %q serves, said %q, %v", i, len(data), filepath.Base(path), state, said, err)
			}
			if said != "" {
				told++
			}
			if state == Before {
				olds++
			}
		}
	}
	if told == 0 && !c.Remade {
		t.Errorf("of %d flipped bytes none was told", flipped)
	}
	t.Logf("figure: %s: %d bytes flipped, one at a time: %d told, %d times the state of before served, else the newest, 0 torn", c.Point, flipped, told, olds)
}

func (c Case) stride(size int) int {
	if c.Stride > 0 {
		return c.Stride
	}
	return size/most + 1
}

// restore puts files back, and removes others.
func restore(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if _, was := files[path]; !was {
			return os.Remove(path)
		}
		return nil
	})
	for path, data := range files {
		if err == nil {
			err = os.WriteFile(path, data, 0o600)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}
