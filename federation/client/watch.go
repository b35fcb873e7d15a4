package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

const (
	// maxEvent bounds one line of a watch.
	maxEvent = 16 << 20
	// watchSilence is three heartbeats of the API.
	watchSilence = 15 * time.Second
)

// ErrGone means that a watch cannot go on from where it was: list again, or
// watch from 0.
var ErrGone = errors.New("the revision is no longer known")

// Watch yields the changes after the revision since; 0 yields the whole list
// first, then an event of type Synced. Heartbeats are not yielded. It ends with
// ctx, when the caller stops, or after yielding an error: ErrGone, a
// *StatusError, or why the stream broke. To resume, pass the last event's
// revision.
func (l Collection[T]) Watch(ctx context.Context, since uint64) iter.Seq2[resource.WatchEvent[T], error] {
	return func(yield func(resource.WatchEvent[T], error) bool) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		err := l.follow(ctx, cancel, since, func(e resource.WatchEvent[T]) bool { return yield(e, nil) })
		if err != nil && ctx.Err() == nil || errors.Is(err, errSilent) {
			yield(resource.WatchEvent[T]{}, err)
		}
	}
}

var errSilent = errors.New("watch: no heartbeat from the federation")

// follow returns nil when the caller stops.
func (l Collection[T]) follow(ctx context.Context, cancel context.CancelCauseFunc, since uint64, yield func(resource.WatchEvent[T]) bool) error {
	q := l.query()
	q.Set("watch", "true")
	q.Set("since", number(since))
	watchdog := time.AfterFunc(watchSilence, func() { cancel(errSilent) })
	defer watchdog.Stop()
	resp, err := l.client.send(ctx, http.MethodGet, l.path, q, nil, nil)
	if err != nil {
		var se *StatusError
		if errors.As(err, &se) && se.Status == http.StatusGone {
			return fmt.Errorf("watch: %w: %w", ErrGone, err)
		}
		return cause(ctx, err)
	}
	// Closed, not drained: a stream has no end.
	defer func() { _ = resp.Body.Close() }()
	lines := newLineReader(resp.Body, maxEvent)
	for {
		var e resource.WatchEvent[T]
		if err := lines.next(&e); err != nil {
			return cause(ctx, fmt.Errorf("watch: %w", err))
		}
		watchdog.Reset(watchSilence)
		switch e.Type {
		case resource.Heartbeat:
		case resource.Gone:
			return fmt.Errorf("watch: fell behind: %w", ErrGone)
		case resource.Put, resource.Delete, resource.Synced:
			if !yield(e) {
				return nil
			}
		default:
			// A type of a newer server is no event that we could miss.
		}
	}
}
