package store

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/isthmus-mesh/isthmus/internal/durable"
)

const (
	// lastGoodKeep is how many states stay on disk: one that was torn by a crash
	// and one that its reader refuses still leave one.
	lastGoodKeep   = 3
	lastGoodMagic  = "isthmus-last-good/1 crc32c="
	lastGoodSuffix = ".good"
	// maxLastGood bounds what is read back.
	maxLastGood = 1 << 30
)

// LastGood keeps the last states of one thing as files, apart from the store: a
// state is derived, may be large and is replaced whole. A file is one line with a
// checksum of the rest; it is written beside its place, synced and renamed.
type LastGood struct {
	dir, name string
	point     durable.Point

	mu   sync.Mutex
	last uint64 // number of the newest file
	// damage is what the last Load found, until it is written over.
	damage error
}

// NewLastGood keeps the states called name (a DNS label) in dir, which it makes
// if need be; point is what they are to those who watch writes.
func NewLastGood(point durable.Point, dir, name string) (*LastGood, error) {
	if name == "" || strings.ContainsAny(name, "./\\") {
		return nil, fmt.Errorf("last good %q: the name must be a DNS label", name)
	}
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, fmt.Errorf("last good %s: %w", name, err)
	}
	return &LastGood{point: point, dir: dir, name: name}, nil
}

// Save keeps data as the newest and removes all but the last three. On an error
// the others are as they were.
func (g *LastGood) Save(data []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	files, err := g.files()
	if err != nil {
		return fmt.Errorf("last good %s: %w", g.name, err)
	}
	next := g.last + 1
	if len(files) > 0 {
		next = max(next, files[0]+1)
	}
	err = g.point.Replace(g.path(next), fileMode, func(f *durable.File) error {
		_, err := f.Write(lastGoodHeader(data))
		if err == nil {
			_, err = f.Write(data)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("last good %s: %w", g.name, err)
	}
	g.last, g.damage = next, nil
	var errs []error
	for _, n := range files[min(len(files), lastGoodKeep-1):] {
		errs = append(errs, g.point.Remove(g.path(n)))
	}
	return errors.Join(errs...)
}

// Load offers the states to accept, the newest first, until one is accepted.
// skipped says which were damaged or refused; err is set where the directory
// cannot be read, or where there are states and none is accepted. Without any
// state both are nil.
func (g *LastGood) Load(accept func([]byte) error) (skipped, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	files, err := g.files()
	if err != nil {
		return nil, fmt.Errorf("last good %s: %w", g.name, err)
	}
	var bad []error
	for _, n := range files {
		data, err := readLastGood(g.path(n))
		if err == nil {
			err = accept(data)
		}
		if err == nil {
			g.damage = errors.Join(bad...)
			return g.damage, nil
		}
		bad = append(bad, fmt.Errorf("last good %s: %w", g.path(n), err))
	}
	g.damage = errors.Join(bad...)
	return nil, g.damage
}

// Damage is what Load could not use, until a newer state is written.
func (g *LastGood) Damage() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.damage
}

// Remove forgets every state.
func (g *LastGood) Remove() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	files, err := g.files()
	for _, n := range files {
		err = errors.Join(err, g.point.Remove(g.path(n)))
	}
	return err
}

func (g *LastGood) path(n uint64) string {
	return filepath.Join(g.dir, fmt.Sprintf("%s.%012d%s", g.name, n, lastGoodSuffix))
}

// files are the numbers of the states, the newest first.
func (g *LastGood) files() ([]uint64, error) {
	entries, err := os.ReadDir(g.dir)
	if err != nil {
		return nil, err
	}
	var out []uint64
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), g.name+".")
		digits, whole := strings.CutSuffix(rest, lastGoodSuffix)
		if n, err := strconv.ParseUint(digits, 10, 64); ours && whole && err == nil {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, func(a, b uint64) int { return cmp.Compare(b, a) })
	return out, nil
}

func lastGoodHeader(data []byte) []byte {
	return fmt.Appendf(nil, "%s%08x\n", lastGoodMagic, crc32.Checksum(data, castagnoli()))
}

func readLastGood(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxLastGood {
		return nil, fmt.Errorf("has %d bytes, at most %d", info.Size(), maxLastGood)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	_, data, _ := bytes.Cut(file, []byte("\n"))
	if !bytes.HasPrefix(file, lastGoodHeader(data)) {
		return nil, errRecord
	}
	return data, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
