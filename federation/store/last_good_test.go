package store_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/store"
)

func lastGood(t *testing.T, dir, name string) *store.LastGood {
	t.Helper()
	g, err := store.NewLastGood("test", dir, name)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func load(t *testing.T, g *store.LastGood, refuse ...string) (got string, skipped, err error) {
	t.Helper()
	skipped, err = g.Load(func(b []byte) error {
		if slices.Contains(refuse, string(b)) {
			return errors.New("refused")
		}
		got = string(b)
		return nil
	})
	return got, skipped, err
}

func TestLastGoodKeepsTheLastThree(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "peers")
	g := lastGood(t, dir, "west")
	if got, skipped, err := load(t, g); got != "" || skipped != nil || err != nil {
		t.Fatalf("Load of nothing = %q, %v, %v", got, skipped, err)
	}
	other := lastGood(t, dir, "west-2")
	if err := other.Save([]byte("other")); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if err := g.Save(fmt.Appendf(nil, "state %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "west.*"))
	if err != nil || len(files) != 3 {
		t.Fatalf("files %v, %v; want three", files, err)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", f, info.Mode().Perm(), err)
		}
	}
	if got, skipped, err := load(t, lastGood(t, dir, "west")); got != "state 4" || skipped != nil || err != nil {
		t.Fatalf("Load after a restart = %q, %v, %v", got, skipped, err)
	}
	if err := g.Remove(); err != nil {
		t.Fatal(err)
	}
	if got, _, err := load(t, g); got != "" || err != nil {
		t.Fatalf("Load after Remove = %q, %v", got, err)
	}
	if got, _, err := load(t, other); got != "other" || err != nil {
		t.Fatalf("Remove touched another: %q, %v", got, err)
	}
}

func TestLastGoodSkipsWhatIsDamagedOrRefused(t *testing.T) {
	dir := t.TempDir()
	g := lastGood(t, dir, "west")
	for i := range 3 {
		if err := g.Save(fmt.Appendf(nil, "state %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	data, err := os.ReadFile(files[2])
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-1] ^= 1
	if err := os.WriteFile(files[2], data, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, skipped, err := load(t, g); got != "state 1" || skipped == nil || err != nil {
		t.Fatalf("Load = %q, skipped %v, %v; want state 1", got, skipped, err)
	}
	if got, skipped, err := load(t, g, "state 1"); got != "state 0" || skipped == nil || err != nil {
		t.Fatalf("Load = %q, skipped %v, %v; want state 0", got, skipped, err)
	}
	if got, _, err := load(t, g, "state 1", "state 0"); got != "" || err == nil {
		t.Fatalf("Load = %q, %v; want an error", got, err)
	}
	// The next save goes on after the damaged one.
	if err := g.Save([]byte("state 3")); err != nil {
		t.Fatal(err)
	}
	if got, skipped, err := load(t, g); got != "state 3" || skipped != nil || err != nil {
		t.Fatalf("Load = %q, %v, %v; want state 3", got, skipped, err)
	}
}

func TestLastGoodNames(t *testing.T) {
	for _, name := range []string{"", "../x", "a.b", `a\b`} {
		if _, err := store.NewLastGood("test", t.TempDir(), name); err == nil {
			t.Errorf("name %q was accepted", name)
		}
	}
}
