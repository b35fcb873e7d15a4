package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
)

const (
	// MaxValue bounds one item: Consul's limit for one key is 512 KiB, and policies
	// are a few hundred bytes.
	MaxValue = 256 << 10
	// MaxItems bounds the store: everything is held in memory.
	MaxItems = 100_000
	// MaxKeyPart bounds the kind and the name of a key.
	MaxKeyPart = 253
	// MaxWrites bounds one transaction: Consul takes 64 operations in one.
	MaxWrites = 60
	// MaxTransaction bounds the values of one transaction together: Consul takes
	// requests of 512 KiB, in which values are base64 and keys up to 1 KiB.
	MaxTransaction = 336 << 10
	// MaxScan bounds one Scan.
	MaxScan = 1000
)

// ArchivePrefix begins the kinds that are an archive: they are kept like all
// others and written in the same transactions, but they are not held in memory,
// and neither List nor Changes tells of them. Get and Scan read them.
const ArchivePrefix = "archive."

// Revisions that an item is expected to have, besides those that reads return.
const (
	// Absent expects that there is no such item.
	Absent uint64 = 0
	// Any expects nothing.
	Any uint64 = math.MaxUint64
)

// Key names an item. Neither part is empty or holds a NUL or a "/".
type Key struct {
	Kind, Name string
}

// Archived reports whether the key's kind is an archive.
func (k Key) Archived() bool { return strings.HasPrefix(k.Kind, ArchivePrefix) }

// String is "kind/name".
func (k Key) String() string { return k.Kind + "/" + k.Name }

// Item is one value and the revision that its last transaction gave it. Revisions
// grow with every transaction, are never used twice and never 0.
type Item struct {
	Key      Key
	Value    []byte // not to be changed
	Revision uint64
}

// Change is one write that happened. After a deletion Item has its revision and
// no value.
type Change struct {
	Item    Item
	Deleted bool
}

// Write is one write of a transaction: Value is put, or the item deleted, where
// it has the revision Expect.
type Write struct {
	Key    Key
	Value  []byte
	Delete bool
	Expect uint64
}

// Store is the contract. It is safe for concurrent use, and linearizable for
// one process: what a call has answered, every later call sees.
type Store interface {
	// Get returns ErrNotFound where there is no such item.
	Get(ctx context.Context, key Key) (Item, error)
	// List returns the items of a kind ("" is all), sorted by kind and name, and
	// the revision of the store that they show.
	List(ctx context.Context, kind string) (items []Item, revision uint64, err error)
	// Put writes value where the item has the expected revision, else it returns
	// a *ConflictError. When it returns nil the value outlives a power failure.
	Put(ctx context.Context, key Key, value []byte, expect uint64) (Item, error)
	// Delete removes the item where it has the expected revision, else it returns
	// a *ConflictError; ErrNotFound where there is none and Any was expected.
	Delete(ctx context.Context, key Key, expect uint64) error
	// Apply makes all writes, to different keys, or none, and returns the revision
	// that all of them have. The errors are those of Put and Delete.
	Apply(ctx context.Context, writes ...Write) (revision uint64, err error)
	// Scan returns up to limit (at most MaxScan) items of an archive, by name, from
	// the first name above after. It asks the medium and not memory: it fails while
	// that is out of reach.
	Scan(ctx context.Context, kind, after string, limit int) ([]Item, error)
	// Changes returns what happened after the revision since, oldest first, and
	// the revision reached. It waits until there is something or ctx ends. Where
	// the history does not reach back to since it returns ErrCompacted: list anew.
	Changes(ctx context.Context, since uint64) (changes []Change, revision uint64, err error)
	// Refresh returns once reads show all that others had written when it was
	// called. Without it Get, List and Changes may lag behind Scan, which asks the
	// medium. It fails while the medium is out of reach.
	Refresh(ctx context.Context) error
	// Writable returns nil, or why the last write failed.
	Writable() error
	// Close ends every Changes; reads and writes return ErrClosed from then on.
	Close() error
}

// The errors that callers branch on.
var (
	ErrNotFound  = errors.New("no such item")
	ErrCompacted = errors.New("the history does not reach back that far")
	ErrClosed    = errors.New("store is closed")
	// ErrNotWritable wraps the reason why the medium takes no writes; reads go on.
	ErrNotWritable = errors.New("store takes no writes")
	// ErrTooLarge means that a bound of this package is exceeded.
	ErrTooLarge = errors.New("exceeds the store's bounds")
	// ErrUnknownOutcome means that the medium did not answer: the write may have
	// been made or not. It is an ErrNotWritable, too.
	ErrUnknownOutcome = fmt.Errorf("%w: no answer, the write may have happened", ErrNotWritable)
)

// ConflictError means that an item's revision is not the expected one.
type ConflictError struct {
	Key Key
	// Have is the item's revision, Absent where there is none.
	Have, Expected uint64
}

// Error names both revisions.
func (e *ConflictError) Error() string {
	switch {
	case e.Expected == Absent:
		return fmt.Sprintf("%s: exists already, at revision %d", e.Key, e.Have)
	case e.Have == Absent:
		return fmt.Sprintf("%s: does not exist, expected revision %d", e.Key, e.Expected)
	default:
		return fmt.Sprintf("%s: is at revision %d, expected %d", e.Key, e.Have, e.Expected)
	}
}

func (k Key) check() error {
	for _, part := range []string{k.Kind, k.Name} {
		if part == "" || len(part) > MaxKeyPart {
			return fmt.Errorf("key %q: each part has 1 to %d bytes: %w", k, MaxKeyPart, ErrTooLarge)
		}
		for i := range len(part) {
			if part[i] == 0 || part[i] == '/' {
				return fmt.Errorf("key %q: has a NUL or a slash", k)
			}
		}
	}
	return nil
}

// CheckWrites returns what is wrong with a transaction whatever the store holds.
func CheckWrites(writes []Write) error {
	if len(writes) == 0 || len(writes) > MaxWrites {
		return fmt.Errorf("transaction of %d writes: 1 to %d: %w", len(writes), MaxWrites, ErrTooLarge)
	}
	total := 0
	for i, w := range writes {
		if err := w.Key.check(); err != nil {
			return err
		}
		if len(w.Value) > MaxValue {
			return fmt.Errorf("%s: %d bytes, at most %d: %w", w.Key, len(w.Value), MaxValue, ErrTooLarge)
		}
		for _, o := range writes[:i] {
			if o.Key == w.Key {
				return fmt.Errorf("%s: is written twice in one transaction", w.Key)
			}
		}
		total += len(w.Value)
	}
	if total > MaxTransaction {
		return fmt.Errorf("transaction of %d bytes, at most %d: %w", total, MaxTransaction, ErrTooLarge)
	}
	return nil
}

// Permit decides on one write by the revision that its item has, Absent where
// there is none.
func (w Write) Permit(have uint64) error {
	if w.Delete && have == Absent && w.Expect == Any {
		return fmt.Errorf("%s: %w", w.Key, ErrNotFound)
	}
	if w.Expect != Any && w.Expect != have {
		return &ConflictError{Key: w.Key, Have: have, Expected: w.Expect}
	}
	return nil
}
