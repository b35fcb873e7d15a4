package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/store"
)

// headKey holds where the chain ends. Every record is written under
// check-and-set of it.
func headKey() store.Key { return store.Key{Kind: "state", Name: "history"} }

// head is the end of the chain, and how far it reaches back.
type head struct {
	Sequence uint64    `json:"sequence"` // of the last record; 0: none yet
	Hash     string    `json:"hash"`
	At       time.Time `json:"at,omitzero"`
	// First is the lowest sequence from which on no record was dropped.
	First uint64 `json:"first"`
	// Bytes are those of the records from First on.
	Bytes int64 `json:"bytes"`
	// Checkpoint is the sequence of the last checkpoint, 0 where nothing was
	// dropped.
	Checkpoint uint64 `json:"checkpoint,omitempty"`

	revision uint64
}

func loadHead(ctx context.Context, s store.Store) (head, error) {
	item, err := s.Get(ctx, headKey())
	if errors.Is(err, store.ErrNotFound) {
		return head{First: 1}, nil
	}
	if err != nil {
		return head{}, fmt.Errorf("history: %w", err)
	}
	var h head
	if err := json.Unmarshal(item.Value, &h); err != nil || h.First == 0 {
		return head{}, fmt.Errorf("history: %s: is not readable", headKey())
	}
	h.revision = item.Revision
	return h, nil
}

// chain appends r to what the head ends: sequence, time, hashes.
func (h *head) chain(r *Record, now time.Time) {
	now = now.UTC().Round(0)
	if now.Before(h.At) {
		now = h.At // of another writer, whose clock is ahead of ours
	}
	r.Sequence, r.At, r.Previous = h.Sequence+1, now, h.Hash
	r.Hash = r.Sum()
	h.Sequence, h.Hash, h.At = r.Sequence, r.Hash, r.At
	h.Bytes += r.size()
}

// write is the head's part of a transaction.
func (h *head) write() (store.Write, error) {
	value, err := json.Marshal(h)
	return store.Write{Key: headKey(), Value: value, Expect: h.revision}, err
}
