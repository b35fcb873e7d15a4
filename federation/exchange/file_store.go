package exchange

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

const (
	// keepStates is how many states stay on disk: a crash while writing the
	// newest and a newest that is refused still leave one.
	keepStates = 3
	// maxState bounds what is read back: a catalog at its quota, with the JSON
	// around it, is far below.
	maxState    = 64 << 20
	stateMagic  = "isthmus-exchange/1 crc32c="
	stateSuffix = ".state"
)

// FileStore keeps the last good states of one peer as files: each is one line
// with a checksum of the rest, then the state. A state is written beside its
// place, synced and renamed.
type FileStore struct {
	dir  string
	name catalog.ClusterName

	mu   sync.Mutex
	last uint64 // sequence of the newest file that this process wrote
}

// NewFileStore keeps the states of a peer in dir, which it makes (mode 0700)
// where it is missing.
func NewFileStore(dir string, peer catalog.ClusterName) (*FileStore, error) {
	if _, err := catalog.ParseClusterName(string(peer)); err != nil {
		return nil, fmt.Errorf("state store: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state store: %w", err)
	}
	return &FileStore{dir: dir, name: peer}, nil
}

// Save writes a state as the newest and removes all but the last three. On an
// error (the disk is full or read-only) the others are as they were.
func (s *FileStore) Save(state []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	files, err := s.files()
	if err != nil {
		return err
	}
	next := s.last + 1
	if len(files) > 0 {
		next = max(next, files[0].sequence+1)
	}
	path := filepath.Join(s.dir, fmt.Sprintf("%s.%012d%s", s.name, next, stateSuffix))
	if err := writeSynced(path, state); err != nil {
		return fmt.Errorf("state store: %w", err)
	}
	s.last = next
	var errs []error
	for _, f := range files[min(len(files), keepStates-1):] {
		errs = append(errs, os.Remove(f.path))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("state store: remove old states: %w", err)
	}
	return nil
}

// Load gives accept the states from the newest on until it takes one. skipped
// says why newer ones were passed over. Without any state it returns nil and
// calls nothing; where none is good the error is skipped.
func (s *FileStore) Load(accept func(state []byte) error) (skipped, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	files, err := s.files()
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		state, err := readState(f.path)
		if err == nil {
			err = accept(state)
		}
		if err == nil {
			return skipped, nil
		}
		skipped = errors.Join(skipped, fmt.Errorf("state store: skip %s: %w", f.path, err))
	}
	return skipped, skipped
}

// Remove deletes every state of the peer: it has left the federation.
func (s *FileStore) Remove() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	files, err := s.files()
	for _, f := range files {
		err = errors.Join(err, os.Remove(f.path))
	}
	return err
}

type stateFile struct {
	path     string
	sequence uint64
}

// files are the states, the newest first.
func (s *FileStore) files() ([]stateFile, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("state store: %w", err)
	}
	var files []stateFile
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), string(s.name)+".")
		digits, whole := strings.CutSuffix(rest, stateSuffix)
		n, err := strconv.ParseUint(digits, 10, 64)
		if ours && whole && err == nil {
			files = append(files, stateFile{filepath.Join(s.dir, e.Name()), n})
		}
	}
	slices.SortFunc(files, func(a, b stateFile) int { return cmp.Compare(b.sequence, a.sequence) })
	return files, nil
}

func checksum(state []byte) uint32 {
	return crc32.Checksum(state, crc32.MakeTable(crc32.Castagnoli))
}

func readState(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxState {
		return nil, fmt.Errorf("has %d bytes, at most %d", info.Size(), maxState)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	head, state, ok := bytes.Cut(data, []byte("\n"))
	if !ok || string(head) != fmt.Sprintf("%s%08x", stateMagic, checksum(state)) {
		return nil, errors.New("is torn or altered: the checksum differs")
	}
	return state, nil
}

// writeSynced makes path appear whole or not at all, also over a power failure.
func writeSynced(path string, state []byte) (err error) {
	temporary := path + ".tmp"
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temporary)
		}
	}()
	_, err = fmt.Fprintf(f, "%s%08x\n", stateMagic, checksum(state))
	if err == nil {
		_, err = f.Write(state)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(temporary, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
