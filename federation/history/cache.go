package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/isthmus-mesh/isthmus/federation/api/feed"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/store"
)

var errGap = errors.New("the records do not reach the head")

// Sync reads the records that others have written. After an error the records
// at hand are what they were, and served.
func (l *Log) Sync(ctx context.Context) error {
	end, err := loadHead(ctx, l.Store)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if end.Sequence == l.head.Sequence && end.Hash == l.head.Hash && end.First == l.head.First && l.broken == "" {
		return nil
	}
	if err := l.extend(ctx, end); err == nil {
		return nil
	}
	// Another history than the one at hand: compacted, or restored from a backup.
	return l.reload(ctx, end)
}

// extend appends what follows the records at hand.
func (l *Log) extend(ctx context.Context, end head) error {
	if end.First != l.head.First || end.Sequence < l.head.Sequence || l.broken != "" || l.head.Sequence == 0 {
		return errGap
	}
	at := l.head
	var more []*Record
	for at.Sequence < end.Sequence {
		page, err := l.scan(ctx, nameOf(at.Sequence))
		if err != nil {
			return err
		}
		for _, r := range page {
			if r.Sequence > end.Sequence {
				break // written since
			}
			if r.Sequence != at.Sequence+1 || r.Previous != at.Hash {
				return errGap
			}
			at.Sequence, at.Hash = r.Sequence, r.Hash
			more = append(more, r)
		}
		if len(page) == 0 {
			return errGap
		}
	}
	if at.Hash != end.Hash {
		return errGap
	}
	l.show(end, append(l.records, more...), more)
	return nil
}

// reload reads every record. Head and records are not read at one moment: what
// does not fit is judged only once the head, asked of the medium after the records
// were, has stayed what it was. The store's own view may lag behind the records,
// and then another's compaction looks like damage.
func (l *Log) reload(ctx context.Context, end head) error {
	for attempt := 0; ; attempt++ {
		all, err := l.readAll(ctx, end)
		if err != nil {
			return err
		}
		fault := check(all, end)
		if fault != nil && attempt < maxAttempts {
			if err := l.Store.Refresh(ctx); err != nil {
				return fmt.Errorf("history: %w", err)
			}
			now, err := loadHead(ctx, l.Store)
			if err != nil {
				return err
			}
			if now.revision != end.revision {
				end = now // others have dropped records meanwhile
				continue
			}
		}
		l.broken = ""
		l.metrics.broken.Set(0)
		if fault != nil {
			l.broken = fault.Rule
			l.log.Error("history is broken", "version", fault.Sequence, "reason", fault.Rule)
			l.metrics.broken.Set(1)
		}
		l.show(end, all, nil)
		return nil
	}
}

// readAll are the records up to the end of the chain; those beyond it were written
// since.
func (l *Log) readAll(ctx context.Context, end head) ([]*Record, error) {
	var all []*Record
	for after := ""; ; {
		page, err := l.scan(ctx, after)
		if err != nil {
			return nil, err
		}
		if len(page) == 0 {
			return slices.DeleteFunc(all, func(r *Record) bool { return r.Sequence > end.Sequence }), nil
		}
		all = append(all, page...)
		after = nameOf(page[len(page)-1].Sequence)
	}
}

func (l *Log) scan(ctx context.Context, after string) ([]*Record, error) {
	page, err := l.Scan(ctx, Kind, after, store.MaxScan)
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	out := make([]*Record, len(page))
	for i, item := range page {
		if out[i], err = decode(item); err != nil {
			return nil, fmt.Errorf("history: %w", err)
		}
	}
	return out, nil
}

// show makes records the ones at hand. more are those that are new, nil where
// all of them may be.
func (l *Log) show(end head, records, more []*Record) {
	l.head, l.records = end, records
	if more != nil {
		for _, r := range more {
			l.feed.Append(entryOf(r), l.opts.MaxRecords*2)
		}
	} else {
		entries := make([]feed.Entry[resource.Change], len(records))
		for i, r := range records {
			entries[i] = entryOf(r)
		}
		l.feed.Replace(entries)
	}
	l.metrics.records.Set(float64(len(records)))
	l.metrics.bytes.Set(float64(end.Bytes))
	l.metrics.sequence.Set(float64(end.Sequence))
	if l.tooMany(l.head) {
		select {
		case l.compact <- struct{}{}:
		default:
		}
	}
}

// took shows what this process has written, without reading it.
func (l *Log) took(end head, records []*Record, revision uint64) {
	if len(records) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range records {
		r.Revision = revision
	}
	first := records[0]
	if first.Sequence != l.head.Sequence+1 || first.Previous != l.head.Hash || end.First != l.head.First && l.head.Sequence > 0 {
		return // others wrote in between: Sync reads both
	}
	l.show(end, append(l.records, records...), records)
}

// errBehind means that others have written since the head was read.
var errBehind = errors.New("the records at hand do not reach the head")

// upTo are the records up to the end of the chain.
func (l *Log) upTo(ctx context.Context, end *head) ([]*Record, error) {
	if err := l.Sync(ctx); err != nil {
		return nil, err
	}
	records, at := l.snapshot()
	if at.Sequence != end.Sequence || at.Hash != end.Hash || at.First != end.First {
		return nil, errBehind
	}
	return records, nil
}

// snapshot is the records at hand and where they end. The slice is not to be
// changed.
func (l *Log) snapshot() ([]*Record, head) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.records, l.head
}

func entryOf(r *Record) feed.Entry[resource.Change] {
	return feed.Entry[resource.Change]{Key: nameOf(r.Sequence), Item: r.Change()}
}

// shown is a value as the API shows it: every rule is JSON, anything else is
// shown as text.
func shown(value []byte) json.RawMessage {
	if value == nil || json.Valid(value) {
		return value
	}
	text, err := json.Marshal(string(value))
	if err != nil {
		return nil
	}
	return text
}

// Change is the record as the API shows it.
func (r *Record) Change() resource.Change {
	return resource.Change{
		Sequence: r.Sequence, At: r.At, Action: string(r.Action), Kind: r.Kind, Name: r.Name, Origin: resource.Origin(r.Origin),
		Principal: r.Principal, Reason: r.Reason, RequestID: r.RequestID,
		Before: shown(r.Before), After: shown(r.After), Previous: r.Previous, Hash: r.Hash,
	}
}
