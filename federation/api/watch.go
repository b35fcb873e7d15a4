package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/isthmus-mesh/isthmus/federation/api/feed"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

const (
	// heartbeatEvery shows a silent watch's client, and our own end, that the
	// other one is there.
	heartbeatEvery = 5 * time.Second
	// lineTimeout is how long a client may leave what was written unread, before
	// the connection is given up: a stream holds one of few places.
	lineTimeout = 10 * time.Second
	// flushBytes is how much of a long list is gathered before it is written.
	flushBytes = 64 << 10
)

// watcher streams one feed: each call of next waits for something to say.
type watcher interface {
	// start appends the lines of a watch that begins.
	start(buf *bytes.Buffer, flush func() error) error
	// next appends the lines of what has changed, and returns a channel that is
	// closed when there is more. ErrGone: the reader is too far behind.
	next(buf *bytes.Buffer) (<-chan struct{}, error)
	// gone and beat append the line that ends a watch, and the one that keeps it.
	gone(buf *bytes.Buffer)
	beat(buf *bytes.Buffer)
	// check tells before the answer begins whether the revision is known.
	check() error
}

type feedWatcher[T any] struct {
	feed *feed.Feed[T]
	seen uint64
	full bool
	keep filter[T]
}

func watchOf[T any](f *feed.Feed[T], since uint64, keep filter[T]) watcher {
	return &feedWatcher[T]{feed: f, seen: since, full: since == 0, keep: keep}
}

func (w *feedWatcher[T]) check() error {
	if w.full {
		return nil
	}
	_, _, _, err := w.feed.Since(w.seen)
	return err
}

func (w *feedWatcher[T]) start(buf *bytes.Buffer, flush func() error) error {
	if !w.full {
		return nil
	}
	entries, revision := w.feed.Entries()
	for e := range entries {
		if !w.keep.takes(e.Item) {
			continue
		}
		// Without a revision: nobody can resume in the middle of the list.
		line(buf, resource.WatchEvent[T]{Type: resource.Put, Key: e.Key, Item: &e.Item})
		if buf.Len() >= flushBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	w.seen = revision
	line(buf, resource.WatchEvent[T]{Type: resource.Synced, Revision: revision})
	return nil
}

func (w *feedWatcher[T]) next(buf *bytes.Buffer) (<-chan struct{}, error) {
	changes, revision, more, err := w.feed.Since(w.seen)
	if err != nil {
		return nil, err
	}
	w.seen = revision
	for _, c := range changes {
		if w.keep.fixed != nil && !w.keep.fixed(c.Item) {
			continue
		}
		e := resource.WatchEvent[T]{Type: resource.Put, Revision: c.Revision, Key: c.Key, Item: &c.Item}
		// Whether the reader has it is not known here: to be told twice that it is
		// gone does no harm.
		if c.Deleted || w.keep.moving != nil && !w.keep.moving(c.Item) {
			e.Type, e.Item = resource.Delete, nil
		}
		line(buf, e)
	}
	return more, nil
}

func (w *feedWatcher[T]) gone(buf *bytes.Buffer) {
	line(buf, resource.WatchEvent[T]{Type: resource.Gone, Revision: w.seen})
}

func (w *feedWatcher[T]) beat(buf *bytes.Buffer) {
	line(buf, resource.WatchEvent[T]{Type: resource.Heartbeat, Revision: w.seen})
}

func line(buf *bytes.Buffer, v any) {
	_ = json.NewEncoder(buf).Encode(v) // our own types encode
}

// watch answers with a stream, if there is room for one more and the revision is
// known; both are problems before the answer begins.
func (s *Server) watch(w watcher) (*listOutput, error) {
	select {
	case s.watches <- struct{}{}:
	default:
		s.metrics.ended.WithLabelValues("refused").Inc()
		return nil, problem(http.StatusServiceUnavailable, CodeTooManyWatches, "as many watches as this server takes are open")
	}
	if err := w.check(); err != nil {
		<-s.watches
		return nil, answerTo(err, "query")
	}
	return &listOutput{Body: func(ctx huma.Context) {
		defer func() { <-s.watches }()
		s.metrics.watches.Inc()
		defer s.metrics.watches.Dec()
		r, rw := humago.Unwrap(ctx)
		if rec := recorderOf(rw); rec != nil {
			rec.stream = true
		}
		if reason := stream(r.Context(), rw, w, s.now); reason != "" {
			s.metrics.ended.WithLabelValues(reason).Inc()
		}
	}}, nil
}

// stream writes until the client goes, falls behind, or ctx ends. It returns why
// the server ended it, "" where the client did.
func stream(ctx context.Context, rw http.ResponseWriter, w watcher, now func() time.Time) string {
	cred, _ := ctx.Value(credentialKey{}).(credential)
	rc := http.NewResponseController(rw)
	// The deadline of the request's header would end the stream: net/http reads
	// on in the background to learn that the client has gone.
	_ = rc.SetReadDeadline(time.Time{})
	rw.Header().Set("Content-Type", "application/jsonl")
	rw.Header().Set("Cache-Control", "no-store")
	rw.Header().Set("X-Content-Type-Options", "nosniff")
	var buf bytes.Buffer
	flush := func() error {
		_ = rc.SetWriteDeadline(time.Now().Add(lineTimeout))
		_, err := rw.Write(buf.Bytes())
		buf.Reset()
		return errors.Join(err, rc.Flush())
	}
	if err := w.start(&buf, flush); err != nil {
		return ""
	}
	beat := time.NewTicker(heartbeatEvery)
	defer beat.Stop()
	for first := true; ; first = false {
		more, err := w.next(&buf)
		if err != nil {
			w.gone(&buf)
			_ = flush()
			return "slow"
		}
		if buf.Len() > 0 || first {
			if err := flush(); err != nil {
				return ""
			}
		}
		select {
		case <-more:
		case <-beat.C:
			if cred.spent(now()) {
				return "credential"
			}
			w.beat(&buf)
		case <-ctx.Done():
			return ""
		}
	}
}
