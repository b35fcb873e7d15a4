package exchange

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/prometheus/client_golang/prometheus"
)

// The reasons of an exporter's refusals: metric labels and problem types.
const (
	problemDenied     = "denied"
	problemNotReady   = "not_ready"
	problemBusy       = "busy"
	problemBadRequest = "bad_request"
	problemNotFound   = "not_found"
	problemExplain    = "explain"
)

// ask is a parsed request for the catalog.
type ask struct {
	watch, full bool
	have        Position
}

func parseAsk(raw string) (ask, error) {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return ask{}, err
	}
	var a ask
	for name, values := range query {
		if len(values) != 1 {
			return ask{}, fmt.Errorf("%s: is given %d times", name, len(values))
		}
		switch name {
		case "watch":
			a.watch, err = strconv.ParseBool(values[0])
		case "full":
			a.full, err = strconv.ParseBool(values[0])
		case "epoch":
			a.have.Epoch, err = strconv.ParseUint(values[0], 10, 64)
		case "since":
			a.have.Version, err = strconv.ParseUint(values[0], 10, 64)
		}
		if err != nil {
			return ask{}, fmt.Errorf("%s: value %.80q: %w", name, values[0], err)
		}
	}
	if a.have.Epoch >= MaxEpoch {
		return ask{}, fmt.Errorf("epoch: value %d: below %d", a.have.Epoch, uint64(MaxEpoch))
	}
	return a, nil
}

func (a ask) query() string {
	q := url.Values{"watch": {strconv.FormatBool(a.watch)}, "epoch": {strconv.FormatUint(a.have.Epoch, 10)}, "since": {strconv.FormatUint(a.have.Version, 10)}}
	if a.full {
		q.Set("full", "true")
	}
	return q.Encode()
}

func (e *Exporter) serveCatalog(w http.ResponseWriter, r *http.Request) {
	peer, ok := e.identify(w, r)
	if !ok {
		return
	}
	a, err := parseAsk(r.URL.RawQuery)
	if err != nil {
		e.log.Warn("exchange request refused", "peer", peer, "err", err)
		e.problem(w, http.StatusBadRequest, problemBadRequest)
		return
	}
	s := &stream{exporter: e, peer: peer, sent: a.have, full: a.full || !a.watch, wake: make(chan struct{}, 1), turn: make(chan struct{}, 1)}
	problem, status := e.open(s)
	if problem != "" {
		if status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		e.problem(w, status, problem)
		return
	}
	defer e.shut(s)
	err = s.serve(w, r, a.watch)
	e.log.Debug("exchange stream ended", "peer", peer, "address", r.RemoteAddr, "err", err)
}

// serve writes the answer, on the connection itself where that is asked for and can
// be had.
func (s *stream) serve(w http.ResponseWriter, r *http.Request, watch bool) error {
	if watch && asksUpgrade(r) {
		u, err := upgrade(w)
		if err == nil {
			s.out, s.direct = newLineWriter(u), true
			defer s.out.release()
			return s.runUpgraded(r.Context(), u)
		}
		if !errors.Is(err, http.ErrNotSupported) {
			return err
		}
	}
	w.Header().Set("Content-Type", streamType)
	w.Header().Set("Cache-Control", "no-store")
	s.out = newLineWriter(&answer{ResponseWriter: w, rc: http.NewResponseController(w)})
	defer s.out.release()
	return s.run(r.Context(), watch)
}

// open admits one more stream of a peer, or says why not.
func (e *Exporter) open(s *stream) (problem string, status int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.told[s.peer]
	switch {
	case e.isDone || t == nil:
		return problemNotReady, http.StatusServiceUnavailable
	case len(t.streams) >= maxWatches:
		return problemBusy, http.StatusTooManyRequests
	}
	s.told = t
	t.streams = append(t.streams, s)
	e.watches++
	e.metrics.streams.WithLabelValues(string(s.peer)).Set(float64(len(t.streams)))
	return "", 0
}

func (e *Exporter) shut(s *stream) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := s.told
	t.streams = slices.DeleteFunc(t.streams, func(o *stream) bool { return o == s })
	e.watches--
	if e.told[s.peer] == t { // else its series are gone
		e.metrics.streams.WithLabelValues(string(s.peer)).Set(float64(len(t.streams)))
	}
}

// stream is one peer's list or watch.
type stream struct {
	exporter *Exporter
	peer     catalog.ClusterName
	told     *told
	out      *lineWriter
	sent     Position
	full     bool
	deltas   prometheus.Counter
	// wake is signalled when there is something to look at: a change, or the end.
	wake chan struct{}

	// turn is held by who writes: the stream's own goroutine, or a sweep. What follows,
	// and sent, full and out, are theirs.
	turn   chan struct{}
	failed error        // of a sweep
	wrote  time.Time    // the last batch
	beat   *time.Ticker // heartbeats; set before the first batch
	direct bool         // the stream has the connection to itself
	quick  atomic.Int32 // writes in a row
}

var errStreamClosed = errors.New("stream is closed by the exporter")

// run writes until the stream ends and returns why. There are very many streams,
// which all have something to do at once: what can wake one is one channel.
func (s *stream) run(ctx context.Context, watch bool) error {
	defer context.AfterFunc(ctx, func() { signal(s.wake) })()
	s.beat = time.NewTicker(HeartbeatEvery)
	defer s.beat.Stop()
	for first := true; ; first = false {
		wrote, at, err := s.step(ctx, first)
		if err != nil || !watch {
			return err
		}
		for waiting := true; waiting; {
			select {
			case <-s.wake:
				waiting = false
			case <-s.beat.C:
				if err := s.heartbeat(); err != nil {
					return err
				}
			}
		}
		if !wrote {
			continue
		}
		if err := sleep(ctx, batchGap-time.Since(at)); err != nil {
			return err
		}
	}
}

// step is batch, in turn with sweeps; at is when the last one was.
func (s *stream) step(ctx context.Context, first bool) (wrote bool, at time.Time, err error) {
	if err := ctx.Err(); err != nil {
		return false, at, err
	}
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.failed != nil {
		return false, at, s.failed
	}
	wrote, err = s.batch(first)
	return wrote, s.wrote, err
}

// sleep returns after d, which mostly has passed, or with the error of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// batch sends what the listener lacks; the first one also says that it lacks
// nothing. An error ends the stream.
func (s *stream) batch(first bool) (wrote bool, err error) {
	e := s.exporter
	o, at, err := s.lacks(first)
	if o == nil || err != nil {
		return false, err
	}
	began := time.Now()
	if err := s.out.batch(o); err != nil {
		return false, err
	}
	if err := s.out.flush(); err != nil {
		return false, err
	}
	if o.begin.Delta {
		if s.deltas == nil {
			s.deltas = e.metrics.batches.WithLabelValues(string(s.peer), "delta")
		}
		s.deltas.Inc()
	} else {
		e.metrics.batches.WithLabelValues(string(s.peer), "full").Inc()
	}
	s.sent, s.full = at, false
	s.wrote = time.Now()
	s.noteWrite(s.wrote.Sub(began))
	s.beat.Reset(HeartbeatEvery)
	return true, nil
}

// lacks is the batch that brings the listener to where the feed stands, nil where
// it stands there.
func (s *stream) lacks(first bool) (*outgoing, Position, error) {
	return s.exporter.lacks(s.told, s.sent, s.full, first)
}

// lacks is what a listener of t lacks that holds sent.
func (e *Exporter) lacks(t *told, sent Position, full, first bool) (*outgoing, Position, error) {
	raised := false
	e.mu.Lock()
	defer func() {
		e.mu.Unlock()
		if raised {
			e.rouse()
		}
	}()
	feed := t.feed
	switch {
	case e.isDone || t.isGone:
		return nil, Position{}, errStreamClosed
	case !first && feed.at == sent:
		return nil, Position{}, nil
	case !feed.knows(sent):
		e.log.Warn("peer has seen a newer state, epoch is raised", "peer", t.peer, "epoch", sent.Epoch, "version", sent.Version)
		if err := e.saveEpoch(t.peer, sent.Epoch+1); err != nil {
			return nil, Position{}, fmt.Errorf("epoch %d: %w", sent.Epoch+1, err)
		}
		feed.raise(sent.Epoch)
		e.announce(t.peer, t)
		raised = true
	}
	return e.since(feed, sent, full), feed.at, nil
}

func (s *stream) heartbeat() error {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	s.exporter.mu.Lock()
	at, ev := s.told.feed.at, s.told.feed.heartbeat()
	s.exporter.mu.Unlock()
	if at != s.sent {
		return nil // a batch is due, which says more
	}
	if err := s.out.write(ev); err != nil {
		return err
	}
	return s.out.flush()
}
