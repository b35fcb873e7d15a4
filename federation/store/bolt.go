package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/durable"
	"go.etcd.io/bbolt"
)

const (
	// fileFormat is the version of the file's layout: 2 has archives.
	fileFormat = 2
	fileMode   = 0o600
	dirMode    = 0o700
	// lockWait is how long the process before us may take to let go of the file.
	lockWait = 2 * time.Second

	// The write points: the file, which bbolt writes, and its journal.
	storePoint   durable.Point = "store"
	journalPoint durable.Point = "store-journal"
)

// BoltOptions configure a Bolt.
type BoltOptions struct {
	// Path of the file; its directory is made with mode 0700 if need be. The
	// journal is beside it, with ".journal" after its name.
	Path string
	// Log receives what happens to the file; nil discards it.
	Log *slog.Logger
	// openFile replaces os.OpenFile in tests of media that fail.
	openFile func(string, int, os.FileMode) (*os.File, error)
	// noSync leaves out fsync in tests that open very many files.
	noSync bool
}

// Bolt is a Store in a bbolt file, for one process.
type Bolt struct {
	path string
	log  *slog.Logger
	mem  *Memory

	mu       sync.Mutex // serialises writes
	db       *bbolt.DB
	journal  *journal // nil where the file is read-only
	unusable error    // why the file takes no writes at all
	failed   error    // why the last write failed
	copyErr  error    // why the journal is no copy now
	damaged  []string // files that were set aside
}

// OpenBolt opens or creates the file, checks and reads all of it. The error is
// an *OpenError. A file that may be read but not written is opened all the same:
// reads are served and writes return ErrNotWritable. One that is damaged is set
// aside and rebuilt from its journal; see Notices.
func OpenBolt(opts BoltOptions) (*Bolt, error) {
	b := &Bolt{path: opts.Path, log: opts.Log}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	if opts.openFile == nil {
		opts.openFile = os.OpenFile
	}
	if err := os.MkdirAll(filepath.Dir(opts.Path), dirMode); err != nil {
		return nil, &OpenError{Path: opts.Path, Reason: NotAccessible, Err: err}
	}
	db, loaded, err := openFile(opts, false)
	if oe := (*OpenError)(nil); errors.As(err, &oe) && oe.Reason == NotAccessible {
		var readErr error
		db, loaded, readErr = openFile(opts, true)
		if readErr != nil {
			return nil, err // why it cannot be written is what the operator must know
		}
		b.unusable = fmt.Errorf("%w: %w", ErrNotWritable, oe.Err)
		b.log.Error("store is read-only", "path", opts.Path, "err", oe.Err)
	} else if db, loaded, err = b.withJournal(opts, db, loaded, err); err != nil {
		return nil, err
	}
	b.db = db
	b.damaged = damagedFiles(opts.Path)
	b.mem = NewMemory(loaded.items, loaded.revision)
	return b, nil
}

// Get implements Store.
func (b *Bolt) Get(_ context.Context, key Key) (Item, error) {
	if !key.Archived() {
		return b.mem.Get(key)
	}
	var item Item
	err := b.view(func(archive *bbolt.Bucket) (err error) {
		name := encodeKey(key)
		record := archive.Get(name)
		if record == nil {
			return fmt.Errorf("%s: %w", key, ErrNotFound)
		}
		item, err = decodeRecord(name, record)
		return err
	})
	return item, err
}

// Scan implements Store.
func (b *Bolt) Scan(_ context.Context, kind, after string, limit int) ([]Item, error) {
	var out []Item
	prefix := []byte(kind + "\x00")
	err := b.view(func(archive *bbolt.Bucket) error {
		c := archive.Cursor()
		// The first key above: nothing sorts between a key and itself with a NUL.
		start := append(bytes.Clone(prefix), after...)
		if after != "" {
			start = append(start, 0)
		}
		for k, v := c.Seek(start); k != nil && bytes.HasPrefix(k, prefix) && len(out) < min(limit, MaxScan); k, v = c.Next() {
			item, err := decodeRecord(k, v)
			if err != nil {
				return fmt.Errorf("%s: %q: %w", b.path, k, err)
			}
			out = append(out, item)
		}
		return nil
	})
	return out, err
}

func (b *Bolt) view(f func(archive *bbolt.Bucket) error) error {
	if _, _, err := b.mem.List("-"); err != nil {
		return err
	}
	return guarded(func() error {
		return b.db.View(func(tx *bbolt.Tx) error {
			archive := tx.Bucket([]byte(archiveBucket))
			if archive == nil {
				return nil // a file of before that cannot be written
			}
			return f(archive)
		})
	})
}

// List implements Store.
func (b *Bolt) List(_ context.Context, kind string) ([]Item, uint64, error) { return b.mem.List(kind) }

// Changes implements Store.
func (b *Bolt) Changes(ctx context.Context, since uint64) ([]Change, uint64, error) {
	return b.mem.Changes(ctx, since)
}

// Refresh implements Store: the file has no other writer.
func (b *Bolt) Refresh(context.Context) error {
	_, _, err := b.mem.List("-") // the one that is closed says so
	return err
}

// Put implements Store.
func (b *Bolt) Put(ctx context.Context, key Key, value []byte, expect uint64) (Item, error) {
	revision, err := b.Apply(ctx, Write{Key: key, Value: value, Expect: expect})
	if err != nil {
		return Item{}, err
	}
	return Item{Key: key, Value: bytes.Clone(value), Revision: revision}, nil
}

// Delete implements Store.
func (b *Bolt) Delete(ctx context.Context, key Key, expect uint64) error {
	_, err := b.Apply(ctx, Write{Key: key, Delete: true, Expect: expect})
	return err
}

// Apply implements Store: it decides, makes the transaction durable, twice, and
// only then visible.
func (b *Bolt) Apply(_ context.Context, writes ...Write) (uint64, error) {
	if err := CheckWrites(writes); err != nil {
		return 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.mem.Room(writes); err != nil {
		return 0, err
	}
	before := b.mem.Revision()
	revision := before + 1
	err := b.unusable
	if err == nil {
		var refusal error
		err = storePoint.Step(durable.OpOther, b.path)
		if err == nil {
			err = guarded(func() error {
				return b.db.Update(func(tx *bbolt.Tx) error {
					err := persist(tx, writes, revision)
					refusal = refused(err)
					return err
				})
			})
		}
		if refusal != nil {
			return 0, refusal
		}
	} else if refusal := b.refuses(writes); refusal != nil {
		return 0, refusal // a conflict is one on any medium
	}
	if err != nil {
		if b.unusable == nil {
			err = fmt.Errorf("%w: %w", ErrNotWritable, err)
			b.failed = err
			b.log.Error("store write failed", "path", b.path, "err", err)
		}
		return 0, err
	}
	b.failed = nil
	b.mem.Made(writes, revision)
	b.copy(writes, before, revision)
	return revision, nil
}

// refuses judges writes where the file takes none, by memory alone.
func (b *Bolt) refuses(writes []Write) error {
	for _, w := range writes {
		if w.Key.Archived() {
			continue
		}
		item, err := b.mem.Get(w.Key)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if err := w.Permit(item.Revision); err != nil {
			return err
		}
	}
	return nil
}

// refused is err where it is about the transaction, nil where about the medium.
func refused(err error) error {
	if _, conflict := errors.AsType[*ConflictError](err); conflict || errors.Is(err, ErrNotFound) {
		return err
	}
	return nil
}

// persist writes a transaction, the revision and the count.
func persist(tx *bbolt.Tx, writes []Write, revision uint64) error {
	items, archive, meta := tx.Bucket([]byte(itemsBucket)), tx.Bucket([]byte(archiveBucket)), tx.Bucket([]byte(metaBucket))
	if items == nil || archive == nil || meta == nil {
		return errors.New("buckets are missing")
	}
	count, err := metaNumber(meta, metaCount)
	if err != nil {
		return err
	}
	for _, w := range writes {
		bucket := items
		if w.Key.Archived() {
			bucket = archive
		}
		key, have := encodeKey(w.Key), Absent
		record := bucket.Get(key)
		if record != nil {
			item, err := decodeRecord(key, record)
			if err != nil {
				return fmt.Errorf("%s: %w", w.Key, err)
			}
			have = item.Revision
		}
		if err := w.Permit(have); err != nil {
			return err
		}
		switch {
		case w.Delete && have == Absent:
			continue // what was expected to be absent is
		case w.Delete:
			err = bucket.Delete(key)
		default:
			err = bucket.Put(key, encodeRecord(Item{Key: w.Key, Value: w.Value, Revision: revision}))
		}
		if err != nil {
			return err
		}
		if bucket == items && w.Delete {
			count--
		} else if bucket == items && have == Absent {
			count++
		}
	}
	return errors.Join(putNumber(meta, metaCount, count), putNumber(meta, metaRevision, revision))
}

func putNumber(b *bbolt.Bucket, name string, n uint64) error {
	return b.Put([]byte(name), encodeRecord(Item{
		Key: Key{Kind: metaBucket, Name: name}, Value: binary.BigEndian.AppendUint64(nil, n),
	}))
}

// Writable implements Store.
func (b *Bolt) Writable() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return errors.Join(b.unusable, b.failed)
}

// Notices are what an operator must look at although the store serves: a file
// that was damaged and rebuilt, a journal that cannot be written.
func (b *Bolt) Notices() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for _, path := range b.damaged {
		if _, err := os.Stat(path); err == nil {
			out = append(out, fmt.Sprintf("the file was damaged and rebuilt from its journal; remove %s when you have looked at it", path))
		}
	}
	if b.copyErr != nil {
		out = append(out, fmt.Sprintf("the journal is no copy of the file now: %v", b.copyErr))
	}
	return out
}

// Close implements Store; it is safe to call twice.
func (b *Bolt) Close() error {
	if !b.mem.Close() {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return errors.Join(guarded(b.db.Close), b.journal.close())
}
