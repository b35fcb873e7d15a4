package syncout

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/isthmus-mesh/isthmus/discovery/consul/agent"
)

const (
	// lockWait is how long one query for the holder waits: after Consul was restored
	// from a backup its indexes are lower, and the query learns of it at its end.
	lockWait = 10 * time.Second
	// lockDelay is how long Consul keeps a lock from others whose session was lost.
	// Writes are fenced, so that it may be short; 0 would mean 15 s.
	lockDelay = time.Second
)

// errLost means that the lock is no longer held.
var errLost = errors.New("consul sync-out: the lock was lost")

// lock is held by a session.
type lock struct {
	w       *Writer
	session string
}

// acquire waits until nobody holds the lock, and takes it.
func (w *Writer) acquire(ctx context.Context) (*lock, error) {
	for index := uint64(0); ; {
		holder, meta, err := w.holder(ctx, index)
		if err != nil {
			return nil, err
		}
		if holder != "" {
			if index = meta.LastIndex; index == 0 && !pause(ctx, lockDelay) {
				return nil, ctx.Err()
			}
			continue
		}
		l, err := w.take(ctx)
		if l != nil || err != nil {
			return l, err
		}
		if !pause(ctx, lockDelay) { // somebody was faster, or it is still kept from everybody
			return nil, ctx.Err()
		}
	}
}

// holder is the session that holds the lock, "" for none.
func (w *Writer) holder(ctx context.Context, index uint64) (string, *api.QueryMeta, error) {
	ctx, cancel := context.WithTimeout(ctx, lockWait*17/16+requestTimeout)
	defer cancel()
	pair, meta, err := w.client.KV().Get(w.config.Lock, (&api.QueryOptions{WaitIndex: index, WaitTime: lockWait}).WithContext(ctx))
	if err == nil {
		err = agent.Trust(meta)
	}
	if err != nil {
		return "", nil, fmt.Errorf("consul key %s: %w", w.config.Lock, err)
	}
	if pair == nil {
		return "", meta, nil
	}
	return pair.Session, meta, nil
}

// take makes a session and tries once; nil without an error means in vain.
func (w *Writer) take(ctx context.Context) (*lock, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	q := (&api.WriteOptions{}).WithContext(ctx)
	session, _, err := w.client.Session().Create(&api.SessionEntry{
		Name: "isthmus sync-out " + string(w.cluster), Behavior: api.SessionBehaviorRelease,
		TTL: w.config.SessionTTL.String(), LockDelay: lockDelay,
	}, q)
	if err != nil {
		return nil, fmt.Errorf("consul session: %w", err)
	}
	l := &lock{w: w, session: session}
	held, _, err := w.client.KV().Acquire(&api.KVPair{Key: w.config.Lock, Value: []byte(w.name), Session: session}, q)
	if err == nil && held {
		return l, nil
	}
	l.release()
	if err != nil {
		return nil, fmt.Errorf("consul lock %s: %w", w.config.Lock, err)
	}
	return nil, nil
}

// keep renews the session until ctx ends, and ends lost's context when the session
// is gone, or may be.
func (l *lock) keep(ctx context.Context, lost context.CancelCauseFunc) {
	ttl := l.w.config.SessionTTL
	for renewed := time.Now(); pause(ctx, ttl/3); {
		each, cancel := context.WithTimeout(ctx, min(requestTimeout, ttl/3))
		entry, _, err := l.w.client.Session().Renew(l.session, (&api.WriteOptions{}).WithContext(each))
		cancel()
		switch {
		case err == nil && entry != nil:
			renewed = time.Now()
		case ctx.Err() != nil:
			return
		case err == nil, time.Since(renewed) > ttl:
			lost(errors.Join(errLost, err))
			return
		}
	}
}

// release gives the lock back at once, so that the next one need not wait for the
// session's end. It does what it can: the process may be about to end.
func (l *lock) release() {
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	q := (&api.WriteOptions{}).WithContext(ctx)
	// An orderly release has no delay, the end of a session has.
	_, _, _ = l.w.client.KV().Release(&api.KVPair{Key: l.w.config.Lock, Value: []byte(l.w.name), Session: l.session}, q)
	_, _ = l.w.client.Session().Destroy(l.session, q)
}

// fence is what every transaction begins with.
func (l *lock) fence() api.TxnOp {
	return api.TxnOp{KV: &api.KVTxnOp{Verb: api.KVCheckSession, Key: l.w.config.Lock, Session: l.session}}
}

// pause waits for d; false means that ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
