package store

import (
	"context"
	"errors"
	"fmt"
	"math"
)

const (
	// MaxValue bounds one item: Consul's limit for one key is 512 KiB, and policies
	// are a few hundred bytes.
	MaxValue = 256 << 10
	// MaxItems bounds the store: everything is held in memory.
	MaxItems = 100_000
	// MaxKeyPart bounds the kind and the name of a key.
	MaxKeyPart = 253
)

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

// String is "kind/name".
func (k Key) String() string { return k.Kind + "/" + k.Name }

// Item is one value and the revision that its last write gave it. Revisions grow
// with every write to the store, are never used twice and never 0.
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
	// Changes returns what happened after the revision since, oldest first, and
	// the revision reached. It waits until there is something or ctx ends. Where
	// the history does not reach back to since it returns ErrCompacted: list anew.
	Changes(ctx context.Context, since uint64) (changes []Change, revision uint64, err error)
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
