package history

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/isthmus-mesh/isthmus/federation/store"
)

// checkpointKind is what a checkpoint is about.
const checkpointKind = "history"

// tooMany reports whether records up to end are to be dropped.
func (l *Log) tooMany(end head) bool {
	return end.Sequence+1-end.First > uint64(l.opts.MaxRecords) || end.Bytes > l.opts.MaxBytes
}

// compactNow drops the oldest records where there are too many: a fifth goes, so
// that it is not done at each write. The checkpoint is written first; what a
// crash leaves behind it is dropped by the next one.
func (l *Log) compactNow(ctx context.Context) error {
	l.mu.Lock()
	due := l.tooMany(l.head) && l.broken == ""
	l.mu.Unlock()
	if !due {
		return nil
	}
	var (
		gone []*Record
		made checkpoint
	)
	_, err := l.append(ctx, func(ctx context.Context, end *head) ([]store.Write, []*Record, error) {
		// Asked again where another process was faster: what an attempt that did
		// not come to pass wanted gone must stay.
		gone, made = nil, checkpoint{}
		if !l.tooMany(*end) {
			return nil, nil, nil // the other one has dropped them
		}
		records, err := l.upTo(ctx, end)
		if err != nil {
			return nil, nil, err
		}
		_, chain := split(records, end.First)
		last := l.oldest(chain, end)
		if last == nil {
			return nil, nil, nil
		}
		n, _ := slices.BinarySearchFunc(records, last.Sequence+1, func(r *Record, s uint64) int { return cmp.Compare(r.Sequence, s) })
		base := baseOf(records[:n])
		gone = slices.DeleteFunc(slices.Clone(records[:n]), func(r *Record) bool { return slices.Contains(base, r) })
		made = checkpoint{
			Through: last.Sequence, Hash: last.Hash, Base: len(base), Digest: digestOf(base), Dropped: len(gone),
		}
		value, err := json.Marshal(made)
		for _, r := range chain[:int(last.Sequence+1-end.First)] {
			end.Bytes -= r.size()
		}
		end.First = last.Sequence + 1
		return nil, []*Record{{Action: Checkpoint, Origin: API, Kind: checkpointKind, After: value}}, err
	})
	if err != nil || made.Through == 0 {
		return err
	}
	err = l.drop(ctx, gone)
	l.log.Info("history compacted", "version", made.Through, "count", made.Dropped, "err", err)
	l.metrics.dropped.Add(float64(made.Dropped))
	return errors.Join(err, l.Sync(ctx))
}

// oldest is the last record to go, so that four fifths of the bounds are left.
func (l *Log) oldest(chain []*Record, end *head) *Record {
	count, bytes := len(chain), end.Bytes
	var last *Record
	for _, r := range chain {
		if count <= l.opts.MaxRecords*4/5 && bytes <= l.opts.MaxBytes*4/5 {
			break
		}
		last, count, bytes = r, count-1, bytes-r.size()
	}
	return last
}

// baseOf are the records that say what rules are at the end of records.
func baseOf(records []*Record) []*Record {
	last := make(map[ruleKey]*Record)
	for _, r := range records {
		switch r.Action {
		case Checkpoint:
		case Delete:
			delete(last, r.rule())
		default:
			last[r.rule()] = r
		}
	}
	out := make([]*Record, 0, len(last))
	for _, r := range last {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b *Record) int { return cmp.Compare(a.Sequence, b.Sequence) })
	return out
}

// drop deletes records, the oldest first: whatever is left when it is cut short,
// no rule is brought back by the loss of the record that deleted it.
func (l *Log) drop(ctx context.Context, gone []*Record) error {
	for part := range slices.Chunk(gone, store.MaxWrites) {
		writes := make([]store.Write, len(part))
		for i, r := range part {
			writes[i] = store.Write{Key: keyOf(r.Sequence), Delete: true, Expect: store.Any}
		}
		_, err := l.Store.Apply(ctx, writes...)
		if errors.Is(err, store.ErrNotFound) {
			err = l.dropEach(ctx, part) // another process drops them, too
		}
		if err != nil {
			return fmt.Errorf("history: %w", err)
		}
	}
	return nil
}

func (l *Log) dropEach(ctx context.Context, part []*Record) error {
	for _, r := range part {
		if err := l.Store.Delete(ctx, keyOf(r.Sequence), store.Any); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	return nil
}
