package consulkv

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
	"unicode/utf8"

	"github.com/isthmus-mesh/isthmus/federation/store"
)

const (
	// maxAttempts bounds the tries of one transaction against conflicts that have
	// gone when they are looked at.
	maxAttempts = 8
	// writeTimeout bounds one transaction with all of its tries; resolveFor is how
	// long it is looked for where its answer was lost.
	writeTimeout = 10 * time.Second
	resolveFor   = 5 * time.Second
	resolveEvery = 200 * time.Millisecond
)

// Apply implements store.Store: one transaction of Consul.
func (s *Store) Apply(ctx context.Context, writes ...store.Write) (uint64, error) {
	return s.apply(ctx, nil, writes)
}

// apply makes writes where all checks hold, too.
func (s *Store) apply(ctx context.Context, checks []op, writes []store.Write) (uint64, error) {
	if err := store.CheckWrites(writes); err != nil {
		return 0, err
	}
	for _, w := range writes {
		if !utf8.ValidString(w.Key.Kind + w.Key.Name) {
			return 0, fmt.Errorf("key %q: must be UTF-8", w.Key)
		}
	}
	if err := s.mem.Room(writes); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	for attempt := 1; ; attempt++ {
		revision, made, err := s.try(ctx, checks, writes)
		if made {
			return revision, nil
		}
		if err == nil { // refused: judged by what there is now
			if err = s.judge(ctx, writes); err == nil && len(checks) > 0 {
				err = ErrNotHeld
			}
			if err == nil && attempt < maxAttempts {
				s.metrics.conflicts.Inc()
				continue
			}
			if err == nil {
				err = fmt.Errorf("%w: refused %d times for no reason that can be seen", store.ErrNotWritable, attempt)
			}
		}
		return 0, s.note(err)
	}
}

// note keeps why a write failed, where it is Consul's doing.
func (s *Store) note(err error) error {
	if errors.Is(err, store.ErrNotWritable) {
		s.mu.Lock()
		s.failed = err
		s.mu.Unlock()
		s.log.Error("store write failed", "err", err)
	}
	return err
}

// try makes the transaction once. Neither made nor an error: Consul refused it.
func (s *Store) try(ctx context.Context, checks []op, writes []store.Write) (revision uint64, made bool, err error) {
	nonce := rand.Uint64()>>1 | 1
	ops, err := s.ops(ctx, writes, nonce)
	if err != nil {
		return 0, false, err
	}
	r, refused, err := s.client.txn(ctx, append(ops, checks...))
	switch {
	case err != nil:
		if revision, err = s.resolve(ctx, ops, nonce, err); err != nil {
			return 0, false, err
		}
	case refused:
		return 0, false, nil
	default:
		for _, e := range r.Results {
			if e.KV != nil {
				revision = max(revision, e.KV.ModifyIndex)
			}
		}
	}
	s.made(writes, revision)
	return revision, true, nil
}

// ops are Consul's operations for writes. The last one is always a set: it tells
// the revision of a transaction that only deletes.
func (s *Store) ops(ctx context.Context, writes []store.Write, nonce uint64) ([]op, error) {
	out := make([]op, 0, len(writes)+1)
	sets := false
	for _, w := range writes {
		o := op{Key: s.path(w.Key), Index: w.Expect}
		switch {
		case w.Delete && w.Expect == store.Absent:
			o.Verb = "check-not-exists"
		case w.Delete:
			o.Verb = "delete-cas"
			if w.Expect == store.Any {
				item, err := s.Get(ctx, w.Key)
				if err != nil {
					return nil, unreachable(err)
				}
				o.Index = item.Revision
			}
		case w.Expect == store.Any:
			o.Verb, o.Value, o.Flags, o.Index, sets = "set", w.Value, nonce, 0, true
		default:
			o.Verb, o.Value, o.Flags, sets = "cas", w.Value, nonce, true
		}
		out = append(out, o)
	}
	if !sets {
		out = append(out, op{Verb: "set", Key: s.config.Prefix + "/stamp", Flags: nonce})
	}
	return out, nil
}

// unreachable says of an error of Consul's that the store takes no writes.
func unreachable(err error) error {
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrClosed) {
		return err
	}
	return fmt.Errorf("%w: %w", store.ErrNotWritable, err)
}

// resolve finds out what became of a transaction whose answer was lost: a key
// that it sets holds its number, or not.
func (s *Store) resolve(ctx context.Context, ops []op, nonce uint64, cause error) (uint64, error) {
	if neverSent(cause) {
		return 0, fmt.Errorf("%w: %w", store.ErrNotWritable, cause)
	}
	if se := (*statusError)(nil); errors.As(cause, &se) && se.status < 500 {
		return 0, fmt.Errorf("%w: %w", store.ErrNotWritable, cause)
	}
	s.metrics.unresolved.Inc()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resolveFor)
	defer cancel()
	for {
		for _, o := range ops {
			if o.Flags != nonce {
				continue
			}
			pairs, _, err := s.client.read(ctx, o.Key, false, 0, true)
			if err != nil {
				break
			}
			if len(pairs) == 1 && pairs[0].Flags == nonce {
				return pairs[0].ModifyIndex, nil
			}
			// It was not made so far, or has been overwritten since: nobody knows.
			return 0, fmt.Errorf("%w: %w", store.ErrUnknownOutcome, cause)
		}
		if !sleep(ctx, resolveEvery) {
			return 0, fmt.Errorf("%w: %w", store.ErrUnknownOutcome, cause)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// made shows writes that Consul has taken.
func (s *Store) made(writes []store.Write, revision uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var news []store.Write
	for _, w := range writes {
		// A reading that ended meanwhile may be of a later state than ours.
		if w.Key.Archived() || revision <= s.shownAt {
			continue
		}
		s.wrote[w.Key] = written{s.reads, revision}
		news = append(news, w)
	}
	s.mem.Made(news, revision)
	s.failed = nil
}

// judge says why a transaction was refused, by what there is now.
func (s *Store) judge(ctx context.Context, writes []store.Write) error {
	if err := s.Refresh(ctx); err != nil {
		return unreachable(err)
	}
	for _, w := range writes {
		item, err := s.Get(ctx, w.Key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return unreachable(err)
		}
		if err := w.Permit(item.Revision); err != nil {
			return err
		}
	}
	return nil
}
