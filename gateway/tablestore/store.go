package tablestore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/internal/durable"
)

// Keep is how many tables stay on disk: the one in force and two to fall back
// to, since the newest is also the one that a crash or a bad push hits.
const Keep = 3

const (
	prefix = "table-"
	suffix = ".snap"
	// point is the write point.
	point durable.Point = "gateway-tables"
)

// Store is a directory of tables. It is used by one goroutine at a time.
type Store struct {
	dir     string
	cluster catalog.ClusterName
	next    uint64
}

// Skipped is a file that Load could not use.
type Skipped struct {
	Path string
	Err  error
}

// Open makes the directory, readable by the owner only (a table names every
// service and address of the cluster), and removes what a crash left half done.
func Open(dir string, cluster catalog.ClusterName) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("table store %s: %w", dir, err)
	}
	s := &Store{dir: dir, cluster: cluster, next: 1}
	numbers, err := s.numbers()
	if err != nil {
		return nil, err
	}
	if len(numbers) > 0 {
		s.next = numbers[0] + 1
	}
	leftovers, err := filepath.Glob(filepath.Join(dir, prefix+"*.tmp"))
	if err != nil {
		return nil, fmt.Errorf("table store %s: %w", dir, err)
	}
	for _, f := range leftovers {
		_ = point.Remove(f) // one that stays costs its space and is never read
	}
	return s, nil
}

// Load returns the newest table that is whole and passes Check, or nil when
// there is none. The files before it that could not be used are named.
func (s *Store) Load() (*route.Table, []Skipped, error) {
	numbers, err := s.numbers()
	if err != nil {
		return nil, nil, err
	}
	var skipped []Skipped
	for _, n := range numbers {
		path := s.path(n)
		t, err := s.read(path)
		if err == nil {
			return t, skipped, nil
		}
		skipped = append(skipped, Skipped{Path: path, Err: err})
	}
	return nil, skipped, nil
}

// Save writes t as the newest table and removes those beyond Keep. On an error
// (a full disk) the tables before it are as they were.
func (s *Store) Save(t *route.Table) error {
	data, err := encode(t)
	if err != nil {
		return err
	}
	err = point.Replace(s.path(s.next), 0o600, func(f *durable.File) error {
		_, err := f.Write(data)
		return err
	})
	if err != nil {
		return fmt.Errorf("save table %d.%d: %w", t.Epoch, t.Version, err)
	}
	s.next++
	numbers, err := s.numbers()
	if err != nil {
		return err
	}
	for _, n := range numbers[min(Keep, len(numbers)):] {
		if err := point.Remove(s.path(n)); err != nil {
			return fmt.Errorf("remove old table: %w", err)
		}
	}
	return nil
}

func (s *Store) read(path string) (*route.Table, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(data) > maxBytes {
		return nil, fmt.Errorf("%w: is larger than %d bytes", ErrCorrupt, maxBytes)
	}
	t, err := decode(data)
	if err != nil {
		return nil, err
	}
	return t, Check(t, s.cluster)
}

func (s *Store) path(n uint64) string {
	return filepath.Join(s.dir, fmt.Sprintf("%s%012d%s", prefix, n, suffix))
}

// numbers lists the files of the store, newest first. Others are left alone.
func (s *Store) numbers() ([]uint64, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("table store %s: %w", s.dir, err)
	}
	var numbers []uint64
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), prefix)
		if !ok {
			continue
		}
		if digits, ok = strings.CutSuffix(digits, suffix); !ok {
			continue
		}
		if n, err := strconv.ParseUint(digits, 10, 64); err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	slices.Reverse(numbers)
	return numbers, nil
}
