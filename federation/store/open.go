package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/isthmus-mesh/isthmus/internal/durable"
	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// The buckets of the file and the keys of metaBucket.
const (
	itemsBucket = "items"
	// archiveBucket holds the kinds that begin with ArchivePrefix.
	archiveBucket = "archive"
	metaBucket    = "meta"
	metaFormat    = "format"
	metaRevision  = "revision"
	metaCount     = "count"
)

// OpenReason says why a store does not open.
type OpenReason string

// The reasons.
const (
	// Locked: another process has the file.
	Locked OpenReason = "locked"
	// Damaged: the file fails its checks. Nothing was changed in it.
	Damaged OpenReason = "damaged"
	// NotAccessible: the file cannot be opened, read or made.
	NotAccessible OpenReason = "not accessible"
	// Newer: a newer version of the program wrote the file.
	Newer OpenReason = "newer"
)

// OpenError says which file does not open, why, and what to do about it.
type OpenError struct {
	Path   string
	Reason OpenReason
	Err    error
}

// Error ends in the advice.
func (e *OpenError) Error() string {
	advice := map[OpenReason]string{
		Locked:        "another process serves from this data directory; stop it or choose another directory",
		Damaged:       "restore it from a backup, or move it away to start with the policies of the config file alone",
		NotAccessible: "check owner and mode of the file and its directory",
		Newer:         "start the version that wrote it, or a newer one",
	}[e.Reason]
	return fmt.Sprintf("store %s is %s: %v (%s)", e.Path, e.Reason, e.Err, advice)
}

// Unwrap is the cause.
func (e *OpenError) Unwrap() error { return e.Err }

type contents struct {
	items    map[Key]Item
	revision uint64
}

// openFile opens the file and reads all of it.
func openFile(opts BoltOptions, readOnly bool) (*bbolt.DB, contents, error) {
	fail := func(reason OpenReason, err error) (*bbolt.DB, contents, error) {
		return nil, contents{}, &OpenError{Path: opts.Path, Reason: reason, Err: err}
	}
	if err := checkSize(opts.Path); err != nil {
		return fail(Damaged, err)
	}
	var (
		db     *bbolt.DB
		opened []*os.File
	)
	err := guarded(func() (err error) {
		if !readOnly {
			if err := storePoint.Step(durable.OpOpen, opts.Path); err != nil {
				return err
			}
		}
		db, err = bbolt.Open(opts.Path, fileMode, &bbolt.Options{
			Timeout: lockWait, ReadOnly: readOnly, NoSync: opts.noSync,
			OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
				f, err := opts.openFile(name, flag, mode)
				if f != nil {
					opened = append(opened, f)
				}
				return f, err
			},
		})
		return err
	})
	if err != nil {
		// bbolt leaves the file open, and locked, when it panics.
		for _, f := range opened {
			_ = f.Close()
		}
		return fail(reasonOf(err), err)
	}
	var all contents
	if !readOnly {
		err = guarded(func() error { return prepare(db, opts.Path) })
		if err != nil {
			_ = guarded(db.Close)
			return fail(reasonOf(err), err)
		}
	}
	if err := guarded(func() error { return db.View(all.read) }); err != nil {
		_ = guarded(db.Close)
		return fail(reasonOf(err), err)
	}
	return db, all, nil
}

// checkSize refuses a file that was cut inside its first pages: mapping it would
// end in a bus error and not in an error.
func checkSize(path string) error {
	info, err := os.Stat(path)
	if err != nil || info.Size() == 0 {
		return nil // made, or reported, by what follows
	}
	if page := int64(os.Getpagesize()); info.Size() < 4*page || info.Size()%page != 0 {
		return fmt.Errorf("has %d bytes, which is no whole number of pages", info.Size())
	}
	return nil
}

// prepare lays out a new file, and closes it to others.
func prepare(db *bbolt.DB, path string) error {
	fresh := false
	err := db.View(func(tx *bbolt.Tx) error {
		// A file that bbolt has just laid out is at transaction 1. Buckets that are
		// not found in a later one were there: a byte of their names has flipped.
		fresh = tx.ID() <= 1
		if !fresh && (tx.Bucket([]byte(metaBucket)) == nil || tx.Bucket([]byte(itemsBucket)) == nil) {
			return fmt.Errorf("%w: buckets are missing", errDamaged)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := os.Chmod(path, fileMode); err != nil {
		return err
	}
	if !fresh {
		return upgrade(db)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range []string{itemsBucket, archiveBucket} {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		meta, err := tx.CreateBucket([]byte(metaBucket))
		if err != nil {
			return err
		}
		return errors.Join(putNumber(meta, metaFormat, fileFormat), putNumber(meta, metaRevision, 0), putNumber(meta, metaCount, 0))
	})
	if err != nil {
		return err
	}
	return syncDir(storePoint, path, false)
}

// upgrade gives a file of format 1 what it lacks.
func upgrade(db *bbolt.DB) error {
	old := false
	err := db.View(func(tx *bbolt.Tx) error {
		old = tx.Bucket([]byte(archiveBucket)) == nil
		return nil
	})
	if err != nil || !old {
		return err
	}
	return db.Update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket([]byte(metaBucket))
		if meta == nil {
			return fmt.Errorf("%w: buckets are missing", errDamaged)
		}
		if format, err := metaNumber(meta, metaFormat); err != nil || format != 1 {
			return fmt.Errorf("%w: archive is missing", errDamaged)
		}
		_, err := tx.CreateBucket([]byte(archiveBucket))
		return errors.Join(err, putNumber(meta, metaFormat, fileFormat))
	})
}

// syncDir makes the name of a file durable too.
func syncDir(point durable.Point, path string, noSync bool) error {
	if noSync {
		return nil
	}
	return point.SyncDir(path)
}

var (
	errNewer   = errors.New("format is newer than this program")
	errDamaged = errors.New("contents are damaged")
)

// read loads and checks everything.
func (c *contents) read(tx *bbolt.Tx) error {
	items, meta := tx.Bucket([]byte(itemsBucket)), tx.Bucket([]byte(metaBucket))
	if items == nil || meta == nil {
		return fmt.Errorf("%w: buckets are missing", errDamaged)
	}
	format, err := metaNumber(meta, metaFormat)
	if err != nil {
		return err
	}
	if format > fileFormat {
		return fmt.Errorf("%w: %d, at most %d", errNewer, format, fileFormat)
	}
	revision, err := metaNumber(meta, metaRevision)
	if err != nil {
		return err
	}
	count, err := metaNumber(meta, metaCount)
	if err != nil {
		return err
	}
	c.items, c.revision = make(map[Key]Item), revision
	err = items.ForEach(func(k, v []byte) error {
		item, err := decodeRecord(k, v)
		if err != nil || item.Revision > revision || item.Revision == Absent {
			return fmt.Errorf("%w: record %q", errDamaged, k)
		}
		c.items[item.Key] = item
		return nil
	})
	if err == nil && uint64(len(c.items)) != count {
		err = fmt.Errorf("%w: %d records, %d were written", errDamaged, len(c.items), count)
	}
	if err != nil || tx.Bucket([]byte(archiveBucket)) == nil {
		return err
	}
	return tx.Bucket([]byte(archiveBucket)).ForEach(func(k, v []byte) error {
		if item, err := decodeRecord(k, v); err != nil || item.Revision > revision {
			return fmt.Errorf("%w: record %q", errDamaged, k)
		}
		return nil
	})
}

func metaNumber(meta *bbolt.Bucket, name string) (uint64, error) {
	item, err := decodeRecord(encodeKey(Key{Kind: metaBucket, Name: name}), meta.Get([]byte(name)))
	if err != nil || len(item.Value) != 8 {
		return 0, fmt.Errorf("%w: %s", errDamaged, name)
	}
	return binary.BigEndian.Uint64(item.Value), nil
}

// faultError is a panic inside bbolt: it trusts its pages.
type faultError struct{ value any }

func (e *faultError) Error() string { return fmt.Sprintf("contents are damaged: %v", e.value) }

// guarded runs f and turns a panic, also one by a fault in the mapped file, into
// an error.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if v := recover(); v != nil {
			err = &faultError{value: v}
		}
	}()
	return f()
}

func reasonOf(err error) OpenReason {
	var fault *faultError
	switch {
	case errors.As(err, &fault), errors.Is(err, errDamaged),
		errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return Damaged
	case errors.Is(err, errNewer):
		return Newer
	case errors.Is(err, berrors.ErrTimeout):
		return Locked
	default:
		return NotAccessible
	}
}
