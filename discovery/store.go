package discovery

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	// keepVersions is how many good states a Store keeps: a bad newest one then
	// still leaves two.
	keepVersions = 3
	// maxStored bounds one state; a million endpoints take about 300 MB.
	maxStored = 1 << 30
	storeMark = "ISTHMUS1"
)

// ErrNoState is returned by Store.Load when nothing was ever saved.
var ErrNoState = errors.New("no stored state")

// Store keeps the last good states of one thing on disk, for a restart with
// everything else dead: each in a file of its own, written whole, synced and
// renamed, with a checksum. The last three are kept.
type Store struct {
	dir, name string
}

// NewStore keeps states as files dir/name.N; dir is made with mode 0700 when
// the first state is saved.
func NewStore(dir, name string) *Store { return &Store{dir: dir, name: name} }

// Save writes data as the newest state. On an error (disk full, read-only) the
// states before it are untouched.
func (s *Store) Save(data []byte) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("store %s: %w", s.name, err)
	}
	numbers, err := s.numbers()
	if err != nil {
		return err
	}
	next := uint64(1)
	if len(numbers) > 0 {
		next = numbers[len(numbers)-1] + 1
	}
	if err := s.write(s.path(next), data); err != nil {
		return fmt.Errorf("store %s: %w", s.name, err)
	}
	for _, old := range numbers[:max(0, len(numbers)+1-keepVersions)] {
		_ = os.Remove(s.path(old)) // one too many does no harm; the next Save tries again
	}
	return nil
}

func (s *Store) write(path string, data []byte) error {
	tmp, err := os.CreateTemp(s.dir, "."+s.name+"-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone already when all went well
	head := binary.BigEndian.AppendUint32([]byte(storeMark), crc32.Checksum(data, castagnoli()))
	_, err = tmp.Write(head)
	if err == nil {
		_, err = tmp.Write(data)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(s.dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Load returns the newest state that is whole and that accept takes. skipped
// says what was wrong with newer ones. Without any good state the error is
// ErrNoState, or tells why those that exist are bad.
func (s *Store) Load(accept func([]byte) error) (skipped error, err error) { //nolint:revive // both are errors; only the last one is the outcome
	numbers, err := s.numbers()
	if err != nil {
		return nil, err
	}
	for _, n := range slices.Backward(numbers) {
		err := s.load(s.path(n), accept)
		if err == nil {
			return skipped, nil
		}
		skipped = errors.Join(skipped, fmt.Errorf("%s: %w", s.path(n), err))
	}
	if skipped != nil {
		return skipped, fmt.Errorf("store %s: no good state: %w", s.name, skipped)
	}
	return nil, ErrNoState
}

func (s *Store) load(path string, accept func([]byte) error) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() > maxStored {
		return fmt.Errorf("has %d bytes, at most %d", info.Size(), maxStored)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	body, ok := bytes.CutPrefix(data, []byte(storeMark))
	if !ok || len(body) < 4 {
		return errors.New("is no stored state, or half of one")
	}
	sum, state := binary.BigEndian.Uint32(body), body[4:]
	if crc32.Checksum(state, castagnoli()) != sum {
		return errors.New("does not match its checksum")
	}
	return accept(state)
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

func (s *Store) path(n uint64) string {
	return filepath.Join(s.dir, fmt.Sprintf("%s.%d", s.name, n))
}

// numbers are those of the stored states, the newest last.
func (s *Store) numbers() ([]uint64, error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", s.name, err)
	}
	var out []uint64
	for _, e := range entries {
		if text, ok := strings.CutPrefix(e.Name(), s.name+"."); ok {
			if n, err := strconv.ParseUint(text, 10, 64); err == nil {
				out = append(out, n)
			}
		}
	}
	slices.Sort(out)
	return out, nil
}
