package discovery

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/internal/durable"
)

const (
	// storeKeep is how many snapshots stay on disk: a crash while writing the
	// newest and a newest that crashes its reader still leave one.
	storeKeep = 3
	// maxStoreFile bounds what is read back: a snapshot of catalog.MaxEndpoints
	// endpoints with labels is below it.
	maxStoreFile = 1 << 30
	storeMagic   = "isthmus-snapshot/1 crc32c="
	storeSuffix  = ".snapshot"
	// storePoint is the write point.
	storePoint durable.Point = "sources"
)

// Store keeps the last good snapshots of one source on disk, so that a process
// starts with what it knew, whatever is dead around it. A file is one line with
// a checksum of the rest, then JSON; it is written beside its place, synced and
// renamed.
type Store struct {
	dir, name string

	mu   sync.Mutex
	last uint64 // sequence of the newest file
}

// Saved is a snapshot that was read back.
type Saved struct {
	At       time.Time         `json:"at"`
	Snapshot *catalog.Snapshot `json:"snapshot"`
}

// NewStore keeps the snapshots of the source name in dir, which it creates where
// it is missing.
func NewStore(dir, name string) (*Store, error) {
	if _, err := catalog.ParseClusterName(name); err != nil {
		return nil, fmt.Errorf("store: source %q: must be a DNS label", name)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return &Store{dir: dir, name: name}, nil
}

// Save writes a snapshot as the newest and removes all but the last three. An
// error (the disk is full or read-only) leaves the others as they were.
func (s *Store) Save(at time.Time, snapshot *catalog.Snapshot) error {
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
	if err := storePoint.Replace(s.path(next), 0o600, func(f *durable.File) error { return encodeSaved(f, at, snapshot) }); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	s.last = next
	var errs []error
	for _, f := range files[min(len(files), storeKeep-1):] {
		errs = append(errs, storePoint.Remove(f.path))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("store: remove old snapshots: %w", err)
	}
	return nil
}

// Load returns the newest good snapshot, or a zero Saved where there is none. The
// error says what was skipped: it is set besides a good snapshot where a newer
// one is corrupt.
func (s *Store) Load() (Saved, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	files, err := s.files()
	if err != nil {
		return Saved{}, err
	}
	var skipped []error
	for _, f := range files {
		v, err := readSaved(f.path)
		if err == nil {
			return v, errors.Join(skipped...)
		}
		skipped = append(skipped, fmt.Errorf("store: skip %s: %w", f.path, err))
	}
	return Saved{}, errors.Join(skipped...)
}

type storeFile struct {
	path     string
	sequence uint64
}

// files lists the snapshots, the newest first.
func (s *Store) files() ([]storeFile, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	var files []storeFile
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), s.name+".")
		digits, complete := strings.CutSuffix(rest, storeSuffix)
		n, err := strconv.ParseUint(digits, 10, 64)
		if ours && complete && err == nil {
			files = append(files, storeFile{filepath.Join(s.dir, e.Name()), n})
		}
	}
	slices.SortFunc(files, func(a, b storeFile) int { return cmp.Compare(b.sequence, a.sequence) })
	return files, nil
}

func (s *Store) path(sequence uint64) string {
	return filepath.Join(s.dir, fmt.Sprintf("%s.%012d%s", s.name, sequence, storeSuffix))
}

// storeHeader is the first line of a file; its length does not depend on sum.
func storeHeader(sum uint32) []byte { return fmt.Appendf(nil, "%s%08x\n", storeMagic, sum) }

// encodeSaved writes a file service by service: a large catalog is not held in
// memory once more as text. The header goes in last, over its place.
func encodeSaved(f *durable.File, at time.Time, snapshot *catalog.Snapshot) error {
	if _, err := f.Write(storeHeader(0)); err != nil {
		return err
	}
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	const chunk = 256 << 10
	out := bufio.NewWriterSize(io.MultiWriter(f, sum), chunk)
	if err := encodeBody(out, at, snapshot); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	_, err := f.WriteAt(storeHeader(sum.Sum32()), 0)
	return err
}

// encodeBody writes what json.Marshal makes of Saved. Errors of out are told by
// its Flush.
func encodeBody(out *bufio.Writer, at time.Time, snapshot *catalog.Snapshot) error {
	when, err := json.Marshal(at.UTC())
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	source, err := json.Marshal(snapshot.Source())
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	_, _ = fmt.Fprintf(out, `{"at":%s,"snapshot":{"source":%s,"services":[`, when, source)
	first := true
	for svc := range snapshot.All() {
		text, err := json.Marshal(svc)
		if err != nil {
			return fmt.Errorf("encode: %w", err)
		}
		if !first {
			_ = out.WriteByte(',')
		}
		first = false
		_, _ = out.Write(text)
	}
	_, _ = out.WriteString("]}}")
	return nil
}

func readSaved(path string) (Saved, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Saved{}, err
	}
	if info.Size() > maxStoreFile {
		return Saved{}, fmt.Errorf("has %d bytes, at most %d", info.Size(), maxStoreFile)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return Saved{}, err
	}
	return decodeSaved(data)
}

func decodeSaved(data []byte) (Saved, error) {
	_, body, _ := bytes.Cut(data, []byte("\n"))
	if !bytes.HasPrefix(data, storeHeader(crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))) {
		return Saved{}, errors.New("the checksum does not match")
	}
	var v Saved
	if err := json.Unmarshal(body, &v); err != nil {
		return Saved{}, err
	}
	if v.Snapshot == nil {
		return Saved{}, errors.New("holds no snapshot")
	}
	return v, nil
}
