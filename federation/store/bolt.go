package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

const (
	// fileFormat is the version of the file's layout.
	fileFormat = 1
	fileMode   = 0o600
	dirMode    = 0o700
	// lockWait is how long the process before us may take to let go of the file.
	lockWait = 2 * time.Second
)

// BoltOptions configure a Bolt.
type BoltOptions struct {
	// Path of the file; its directory is made with mode 0700 if need be.
	Path string
	// Log receives what happens to the file; nil discards it.
	Log *slog.Logger

	// openFile replaces os.OpenFile in tests of media that fail.
	openFile func(string, int, os.FileMode) (*os.File, error)
}

// Bolt is a Store in a bbolt file, for one process.
type Bolt struct {
	path string
	log  *slog.Logger
	mem  *memory

	mu       sync.Mutex // serialises writes
	db       *bbolt.DB  // nil where the file is read-only
	unusable error      // why db is nil
	failed   error      // why the last write failed
}

// OpenBolt opens or creates the file, checks and reads all of it. The error is
// an *OpenError. A file that may be read but not written is opened all the same:
// reads are served and writes return ErrNotWritable.
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
		_ = db.Close() // everything is in memory
		b.unusable = fmt.Errorf("%w: %w", ErrNotWritable, oe.Err)
		b.log.Error("store is read-only", "path", opts.Path, "err", oe.Err)
	} else if err != nil {
		return nil, err
	} else {
		b.db = db
	}
	b.mem = newMemory(loaded.items, loaded.revision)
	return b, nil
}

// Get implements Store.
func (b *Bolt) Get(_ context.Context, key Key) (Item, error) { return b.mem.get(key) }

// List implements Store.
func (b *Bolt) List(_ context.Context, kind string) ([]Item, uint64, error) { return b.mem.list(kind) }

// Changes implements Store.
func (b *Bolt) Changes(ctx context.Context, since uint64) ([]Change, uint64, error) {
	return b.mem.changes(ctx, since)
}

// Put implements Store.
func (b *Bolt) Put(_ context.Context, key Key, value []byte, expect uint64) (Item, error) {
	c, err := b.write(key, value, false, expect)
	return c.Item, err
}

// Delete implements Store.
func (b *Bolt) Delete(_ context.Context, key Key, expect uint64) error {
	_, err := b.write(key, nil, true, expect)
	return err
}

// write decides, makes the change durable, and only then visible.
func (b *Bolt) write(key Key, value []byte, deleted bool, expect uint64) (Change, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, err := b.mem.admit(key, value, deleted, expect)
	if err != nil {
		return Change{}, err
	}
	if b.unusable != nil {
		return Change{}, b.unusable
	}
	if err := guarded(func() error { return b.db.Update(func(tx *bbolt.Tx) error { return persist(tx, c) }) }); err != nil {
		b.failed = fmt.Errorf("%w: %w", ErrNotWritable, err)
		b.log.Error("store write failed", "path", b.path, "err", err)
		return Change{}, b.failed
	}
	b.failed = nil
	b.mem.apply(c)
	return c, nil
}

// persist writes one change, the revision and the count in one transaction.
func persist(tx *bbolt.Tx, c Change) error {
	items, meta := tx.Bucket([]byte(itemsBucket)), tx.Bucket([]byte(metaBucket))
	if items == nil || meta == nil {
		return errors.New("buckets are missing")
	}
	key := encodeKey(c.Item.Key)
	count, err := metaNumber(meta, metaCount)
	if err != nil {
		return err
	}
	existed := items.Get(key) != nil
	switch {
	case c.Deleted:
		err, count = items.Delete(key), count-1
	case existed:
		err = items.Put(key, encodeRecord(c.Item))
	default:
		err, count = items.Put(key, encodeRecord(c.Item)), count+1
	}
	return errors.Join(err, putNumber(meta, metaCount, count), putNumber(meta, metaRevision, c.Item.Revision))
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

// Close implements Store; it is safe to call twice.
func (b *Bolt) Close() error {
	if !b.mem.close() {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.db == nil {
		return nil
	}
	return guarded(b.db.Close)
}
