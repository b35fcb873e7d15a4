package history

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/store"
)

// State is what held after one record.
type State struct {
	Sequence uint64
	At       time.Time
	last     map[ruleKey]*Record // that say what a rule is
}

// ruleKey is one rule at one origin: a name may be in both.
type ruleKey struct {
	origin     Origin
	kind, name string
}

func (r *Record) rule() ruleKey { return ruleKey{r.Origin, r.Kind, r.Name} }

// Items are the store's items of a kind, by name, with the revisions that they
// had.
func (s State) Items(kind string) []store.Item {
	var out []store.Item
	for key, r := range s.last {
		if key.origin == API && key.kind == kind {
			out = append(out, store.Item{Key: store.Key{Kind: kind, Name: key.name}, Value: r.After, Revision: r.Revision})
		}
	}
	slices.SortFunc(out, func(a, b store.Item) int { return cmp.Compare(a.Key.Name, b.Key.Name) })
	return out
}

// Config are the values of the config file's rules of a kind, by name.
func (s State) Config(kind string) [][]byte {
	var rules []*Record
	for key, r := range s.last {
		if key.origin == Config && key.kind == kind {
			rules = append(rules, r)
		}
	}
	slices.SortFunc(rules, func(a, b *Record) int { return cmp.Compare(a.Name, b.Name) })
	out := make([][]byte, len(rules))
	for i, r := range rules {
		out[i] = r.After
	}
	return out
}

// At is the state after a record: asOf is its sequence, or a time in RFC 3339,
// which is the last record up to then. 0 is the state before every record. The
// error wraps ErrCompacted, ErrFuture, or says that asOf is neither.
func (l *Log) At(ctx context.Context, asOf string) (State, error) {
	if err := l.Sync(ctx); err != nil {
		l.log.Warn("history is read as far as it is known", "err", err)
	}
	records, end := l.snapshot()
	sequence, err := resolve(records, end, asOf)
	if err != nil {
		return State{}, err
	}
	return rebuild(records, sequence), nil
}

// AsOfError is an as_of that is neither a sequence nor a time.
type AsOfError struct{ Value string }

// Error says what it may be.
func (e *AsOfError) Error() string {
	return fmt.Sprintf("as_of: value %q: must be a sequence number or a time as in 2006-01-02T15:04:05Z", e.Value)
}

func resolve(records []*Record, end head, asOf string) (uint64, error) {
	sequence, err := strconv.ParseUint(asOf, 10, 64)
	if err != nil {
		at, err := time.Parse(time.RFC3339, asOf)
		if err != nil {
			return 0, &AsOfError{Value: asOf}
		}
		_, chain := split(records, end.First)
		n, _ := slices.BinarySearchFunc(chain, at, func(r *Record, t time.Time) int {
			if r.At.After(t) {
				return 1
			}
			return -1
		})
		if n == 0 && end.First > 1 {
			return 0, fmt.Errorf("as of %s: %w: its first record is %d", asOf, ErrCompacted, end.First)
		}
		sequence = end.First - 1 + uint64(n)
	}
	switch {
	case sequence > end.Sequence:
		return 0, fmt.Errorf("as of %d: %w: the last is %d", sequence, ErrFuture, end.Sequence)
	case sequence < end.First-1:
		return 0, fmt.Errorf("as of %d: %w: its first record is %d", sequence, ErrCompacted, end.First)
	}
	return sequence, nil
}

// rebuild replays records up to a sequence.
func rebuild(records []*Record, sequence uint64) State {
	s := State{Sequence: sequence, last: make(map[ruleKey]*Record)}
	for _, r := range records {
		if r.Sequence > sequence {
			break
		}
		s.At = r.At
		switch r.Action {
		case Checkpoint:
		case Delete:
			delete(s.last, r.rule())
		default:
			s.last[r.rule()] = r
		}
	}
	return s
}

// Find returns one record. The error wraps ErrCompacted, ErrFuture or
// store.ErrNotFound.
func (l *Log) Find(ctx context.Context, sequence uint64) (*Record, error) {
	if err := l.Sync(ctx); err != nil {
		l.log.Warn("history is read as far as it is known", "err", err)
	}
	records, end := l.snapshot()
	i, ok := slices.BinarySearchFunc(records, sequence, func(r *Record, s uint64) int { return cmp.Compare(r.Sequence, s) })
	switch {
	case ok:
		return records[i], nil
	case sequence > end.Sequence:
		return nil, fmt.Errorf("record %d: %w: the last is %d", sequence, ErrFuture, end.Sequence)
	case sequence > 0 && sequence < end.First:
		return nil, fmt.Errorf("record %d: %w: its first record is %d", sequence, ErrCompacted, end.First)
	default:
		return nil, fmt.Errorf("record %d: %w", sequence, store.ErrNotFound)
	}
}
