package exchange

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
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
	t, problem, status := e.open(peer)
	if t == nil {
		if status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		e.problem(w, status, problem)
		return
	}
	defer e.shut(peer, t)
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	s := &stream{exporter: e, peer: peer, told: t, out: newLineWriter(w), sent: a.have, full: a.full || !a.watch}
	defer s.out.release()
	err = s.run(r, a.watch)
	e.log.Debug("exchange stream ended", "peer", peer, "address", r.RemoteAddr, "err", err)
}

// open admits one more stream of a peer.
func (e *Exporter) open(peer catalog.ClusterName) (t *told, problem string, status int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t = e.told[peer]
	switch {
	case e.isDone || t == nil:
		return nil, problemNotReady, http.StatusServiceUnavailable
	case t.watches >= maxWatches:
		return nil, problemBusy, http.StatusTooManyRequests
	}
	t.watches++
	e.watches++
	e.metrics.streams.WithLabelValues(string(peer)).Set(float64(t.watches))
	return t, "", 0
}

func (e *Exporter) shut(peer catalog.ClusterName, t *told) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t.watches--
	e.watches--
	if e.told[peer] == t { // else its series are gone
		e.metrics.streams.WithLabelValues(string(peer)).Set(float64(t.watches))
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
}

var errStreamClosed = errors.New("stream is closed by the exporter")

// run writes until the stream ends and returns why.
func (s *stream) run(r *http.Request, watch bool) error {
	heartbeat := time.NewTicker(HeartbeatEvery)
	defer heartbeat.Stop()
	pause := time.NewTimer(0) // the gap between two batches
	defer pause.Stop()
	for {
		select {
		case <-pause.C:
		case <-r.Context().Done():
			return r.Context().Err()
		}
		changed, err := s.batch()
		if err != nil || !watch {
			return err
		}
		heartbeat.Reset(HeartbeatEvery)
		pause.Reset(batchGap)
		for waiting := true; waiting; {
			select {
			case <-changed:
				waiting = false
			case <-heartbeat.C:
				if err := s.heartbeat(); err != nil {
					return err
				}
			case <-r.Context().Done():
				return r.Context().Err()
			case <-s.told.gone:
				return errStreamClosed
			case <-s.exporter.closed:
				return errStreamClosed
			}
		}
	}
}

// batch sends what the listener lacks and returns a channel that is closed at
// the next change.
func (s *stream) batch() (changed <-chan struct{}, err error) {
	e := s.exporter
	e.mu.Lock()
	feed := s.told.feed
	if !feed.knows(s.sent) {
		e.log.Warn("peer has seen a newer state, epoch is raised", "peer", s.peer, "epoch", s.sent.Epoch, "version", s.sent.Version)
		if err := e.saveEpoch(s.peer, s.sent.Epoch+1); err != nil {
			e.mu.Unlock()
			return nil, fmt.Errorf("epoch %d: %w", s.sent.Epoch+1, err)
		}
		feed.raise(s.sent.Epoch)
		e.announce(s.peer, s.told)
	}
	o := feed.since(s.sent, s.full)
	changed = s.told.changed
	at := feed.at
	e.mu.Unlock()

	if err := s.out.batch(o); err != nil {
		return nil, err
	}
	if err := s.out.flush(); err != nil {
		return nil, err
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
	return changed, nil
}

func (s *stream) heartbeat() error {
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

// lineBuffer gathers the lines of a batch; each stream has one at either end, for
// as long as it lasts.
const lineBuffer = 16 << 10

// lineWriter writes events to a client that may read slowly, but reads.
type lineWriter struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	buf  *bufio.Writer
	line []byte // room for one

	// stall ends the stream when a write takes writeTimeout. A deadline of each
	// write would be a message to the connection's goroutine each time.
	stall    *time.Timer
	mu       sync.Mutex
	released bool
}

func newLineWriter(w http.ResponseWriter) *lineWriter {
	l := &lineWriter{w: w, rc: http.NewResponseController(w)}
	l.buf = bufio.NewWriterSize(l, lineBuffer)
	l.stall = time.AfterFunc(writeTimeout, l.cut)
	l.stall.Stop()
	return l
}

// cut ends a write that goes on.
func (l *lineWriter) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.released { // the answer is no longer ours then
		_ = l.rc.SetWriteDeadline(time.Unix(1, 0))
	}
}

// Write is the buffer's way out: each chunk has its own time.
func (l *lineWriter) Write(p []byte) (int, error) {
	l.stall.Reset(writeTimeout)
	defer l.stall.Stop()
	return l.w.Write(p)
}

// release gives the answer back: its connection may serve another request.
func (l *lineWriter) release() {
	l.stall.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.released = true
}

func (l *lineWriter) write(e *Event) (err error) {
	if l.line, err = e.append(l.line[:0]); err != nil {
		return fmt.Errorf("event %s: %w", e.Type, err)
	}
	_, err = l.buf.Write(l.line)
	return err
}

// batch writes a batch; the lines of services are there already.
func (l *lineWriter) batch(o *outgoing) error {
	for ev := range o.head {
		if err := l.write(ev); err != nil {
			return err
		}
	}
	if o.body != nil {
		if _, err := l.buf.Write(o.body); err != nil {
			return err
		}
		return l.write(&o.sync)
	}
	for _, e := range o.entries {
		if _, err := l.buf.Write(e.line); err != nil {
			return err
		}
	}
	return l.write(&o.sync)
}

func (l *lineWriter) flush() error {
	if err := l.buf.Flush(); err != nil {
		return err
	}
	l.stall.Reset(writeTimeout)
	defer l.stall.Stop()
	if err := l.rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}
