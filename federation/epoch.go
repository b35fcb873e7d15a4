package federation

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/isthmus-mesh/isthmus/federation/store"
)

const (
	stateKind = "state"
	epochName = "epoch"
	// maxEpoch keeps revisions of feeds, which start at an epoch's 32-bit shift,
	// inside of 63 bits. A claim of more is no epoch of ours.
	maxEpoch = 1<<31 - 1
)

// counter is one number in the store.
type counter struct {
	store store.Store
	name  string
}

func (c counter) key() store.Key { return store.Key{Kind: stateKind, Name: c.name} }

// load returns the number, 0 where there is none.
func (c counter) load(ctx context.Context) (uint64, uint64, error) {
	item, err := c.store.Get(ctx, c.key())
	if errors.Is(err, store.ErrNotFound) {
		return 0, store.Absent, nil
	}
	if err != nil {
		return 0, 0, err
	}
	if len(item.Value) != 8 {
		return 0, 0, fmt.Errorf("%s: is no number", c.key())
	}
	return binary.BigEndian.Uint64(item.Value), item.Revision, nil
}

// raise makes the number one above both itself and floor, for good, and returns
// it. Two who raise at once get different numbers.
func (c counter) raise(ctx context.Context, floor uint64) (uint64, error) {
	for {
		have, revision, err := c.load(ctx)
		if err != nil {
			return 0, err
		}
		next := max(have, floor) + 1
		_, err = c.store.Put(ctx, c.key(), binary.BigEndian.AppendUint64(nil, next), revision)
		if _, raced := errors.AsType[*store.ConflictError](err); raced {
			continue
		}
		if err != nil {
			return next, err // usable in this process, not kept
		}
		return next, nil
	}
}

// set keeps a number that is decided elsewhere.
func (c counter) set(ctx context.Context, n uint64) error {
	_, err := c.store.Put(ctx, c.key(), binary.BigEndian.AppendUint64(nil, n), store.Any)
	return err
}
