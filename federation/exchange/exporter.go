package exchange

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// maxWatches bounds the streams of one peer: one for each of a few replicas,
	// twice while they reconnect.
	maxWatches = 8
	// maxQuery bounds the query of one request.
	maxQuery = 4 << 10
	// writeTimeout ends a stream whose reader takes nothing.
	writeTimeout = 30 * time.Second
	// Explanations that one peer may ask for: each may cost a look at all
	// evidence.
	explainsPerSecond = 10
	explainBurst      = 20
)

// ExporterOptions configure an Exporter.
type ExporterOptions struct {
	// Cluster is the own cluster.
	Cluster catalog.ClusterName
	// Peer tells who has sent a request, from the authenticated identity of its
	// connection; an error refuses the request.
	Peer func(*http.Request) (catalog.ClusterName, error)
	// LoadEpoch and SaveEpoch keep the epoch of each peer's feed over restarts;
	// LoadEpoch returns 0 where there is none. A failure is logged and not fatal:
	// listeners tell what they have seen. nil keeps nothing.
	LoadEpoch func(catalog.ClusterName) (uint64, error)
	SaveEpoch func(catalog.ClusterName, uint64) error
	// Fenced makes a failure of SaveEpoch final: no peer is told anything under an
	// epoch that is not kept. It is for exporters of which only one may speak, and
	// whose SaveEpoch fails where it is not this one.
	Fenced bool
	// Explain answers GET ExplainPath for a peer; the answer is written as JSON.
	// It decides what the peer may ask. nil answers 404.
	Explain func(ctx context.Context, peer catalog.ClusterName, query url.Values) (any, error)
	// Limits are what the exporter holds itself to; zero means DefaultLimits.
	Limits Limits
	// Log receives the exporter's log; nil discards it.
	Log *slog.Logger
	// Registerer takes the metrics; nil registers none.
	Registerer prometheus.Registerer
}

// Exporter tells each peer what is exported to it. It is an http.Handler for the
// paths below Prefix, safe for concurrent use.
type Exporter struct {
	opts    ExporterOptions
	log     *slog.Logger
	mux     *http.ServeMux
	metrics *exporterMetrics

	mu     sync.Mutex
	told   map[catalog.ClusterName]*told
	isDone bool

	watches int       // of all peers
	roused  []*stream // at the end of what is under way
	sweeper sweeper
	// singles are those of the last SetAll.
	singles map[ownName]*singles
	delta   *delta // the last that several peers may be sent
}

// told is one peer's feed and those who watch it.
type told struct {
	peer     catalog.ClusterName
	feed     *feed
	next     State   // of the SetAll that is under way
	own      ownName // of next
	labels   map[string]string
	streams  []*stream
	isGone   bool // the peer is removed
	explains bucket
	// services and version are the peer's gauges.
	services, version prometheus.Gauge
}

// NewExporter checks the options.
func NewExporter(opts ExporterOptions) (*Exporter, error) {
	if _, err := catalog.ParseClusterName(string(opts.Cluster)); err != nil {
		return nil, fmt.Errorf("exporter: %w", err)
	}
	if opts.Peer == nil {
		return nil, errors.New("exporter: peer: is required")
	}
	if opts.Limits == (Limits{}) {
		opts.Limits = DefaultLimits()
	}
	e := &Exporter{opts: opts, log: opts.Log, mux: http.NewServeMux(), told: make(map[catalog.ClusterName]*told)}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if e.metrics, err = newExporterMetrics(opts.Registerer); err != nil {
		return nil, fmt.Errorf("exporter: %w", err)
	}
	e.mux.HandleFunc("GET "+CatalogPath, e.serveCatalog)
	e.mux.HandleFunc("GET "+ExplainPath, e.serveExplain)
	return e, nil
}

// ServeHTTP serves the paths below Prefix.
func (e *Exporter) ServeHTTP(w http.ResponseWriter, r *http.Request) { e.mux.ServeHTTP(w, r) }

// Set replaces what a peer is told. Until the first Set the peer is answered
// "not ready", so that it keeps what it has: the caller sets nothing before its
// own state is complete (sources read or loaded, gateways known). On an error
// the peer goes on being told what it was.
func (e *Exporter) Set(peer catalog.ClusterName, s State) error {
	return e.SetAll(map[catalog.ClusterName]State{peer: s})[peer]
}

// rouse makes the streams look that have something to look at. The lock, which each
// of them takes then, is free.
func (e *Exporter) rouse() {
	e.mu.Lock()
	streams := e.roused
	e.roused = nil
	e.mu.Unlock()
	var quick []*stream
	for _, s := range streams {
		if s.isQuick() {
			quick = append(quick, s)
		} else {
			signal(s.wake)
		}
	}
	e.sweeper.add(quick)
}

// announce has the streams of a peer roused.
func (e *Exporter) announce(peer catalog.ClusterName, t *told) {
	e.roused = append(e.roused, t.streams...)
	if t.services == nil {
		t.services, t.version = e.metrics.services.WithLabelValues(string(peer)), e.metrics.version.WithLabelValues(string(peer))
	}
	t.services.Set(float64(t.feed.list.totals.services))
	t.version.Set(float64(t.feed.at.Version))
}

// firstEpoch is one above any that this exporter remembers.
func (e *Exporter) firstEpoch(peer catalog.ClusterName) (uint64, error) {
	var last uint64
	if e.opts.LoadEpoch != nil {
		var err error
		if last, err = e.opts.LoadEpoch(peer); err != nil {
			e.log.Warn("epoch not loaded", "peer", peer, "err", err)
		}
		last = min(last, MaxEpoch-1)
	}
	return last + 1, e.saveEpoch(peer, last+1)
}

// saveEpoch returns an error only where the epoch must not be used.
func (e *Exporter) saveEpoch(peer catalog.ClusterName, epoch uint64) error {
	if e.opts.SaveEpoch == nil {
		return nil
	}
	err := e.opts.SaveEpoch(peer, epoch)
	if err != nil {
		e.log.Warn("epoch not saved", "peer", peer, "epoch", epoch, "err", err)
	}
	if e.opts.Fenced {
		return err
	}
	return nil
}

// Remove ends a peer's streams and forgets it.
func (e *Exporter) Remove(peer catalog.ClusterName) {
	defer e.rouse()
	e.mu.Lock()
	defer e.mu.Unlock()
	if t := e.told[peer]; t != nil {
		t.isGone = true
		e.roused = append(e.roused, t.streams...)
		delete(e.told, peer)
	}
	e.metrics.remove(peer)
}

// Peers are those that Set was called for, sorted.
func (e *Exporter) Peers() []catalog.ClusterName {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]catalog.ClusterName, 0, len(e.told))
	for p := range e.told {
		out = append(out, p)
	}
	slices.Sort(out)
	return out
}

// Position is where a peer's feed stands; zero before the first Set.
func (e *Exporter) Position(peer catalog.ClusterName) Position {
	e.mu.Lock()
	defer e.mu.Unlock()
	if t := e.told[peer]; t != nil {
		return t.feed.at
	}
	return Position{}
}

// Close ends all streams, now and later, so that the HTTP server can shut down.
func (e *Exporter) Close() {
	defer e.rouse()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.isDone = true
	for _, t := range e.told {
		e.roused = append(e.roused, t.streams...)
	}
}

// problem answers with an RFC 9457 body whose type ends in reason.
func (e *Exporter) problem(w http.ResponseWriter, status int, reason string) {
	e.metrics.refused.WithLabelValues(reason).Inc()
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"type": "urn:isthmus:problem:" + reason, "title": http.StatusText(status), "status": status,
	})
}

// identify returns who asks, or answers the request.
func (e *Exporter) identify(w http.ResponseWriter, r *http.Request) (catalog.ClusterName, bool) {
	peer, err := e.opts.Peer(r)
	if err != nil {
		e.log.Warn("exchange request refused", "address", r.RemoteAddr, "err", err)
		e.problem(w, http.StatusForbidden, problemDenied)
		return "", false
	}
	if len(r.URL.RawQuery) > maxQuery {
		e.problem(w, http.StatusBadRequest, problemBadRequest)
		return "", false
	}
	return peer, true
}

func (e *Exporter) serveExplain(w http.ResponseWriter, r *http.Request) {
	peer, ok := e.identify(w, r)
	if !ok {
		return
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	switch {
	case e.opts.Explain == nil:
		e.problem(w, http.StatusNotFound, problemNotFound)
		return
	case err != nil:
		e.problem(w, http.StatusBadRequest, problemBadRequest)
		return
	case !e.mayExplain(peer):
		e.problem(w, http.StatusTooManyRequests, problemBusy)
		return
	}
	answer, err := e.opts.Explain(r.Context(), peer, query)
	if err != nil {
		e.log.Info("explanation refused", "peer", peer, "err", err)
		if ee, ok := errors.AsType[*ExplainError](err); ok {
			e.problem(w, ee.Status, problemExplain)
			return
		}
		e.problem(w, http.StatusInternalServerError, problemExplain)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		e.log.Debug("explanation not delivered", "peer", peer, "err", err)
	}
}

// ExplainError lets ExporterOptions.Explain choose the status of its refusal;
// the peer is told nothing else.
type ExplainError struct {
	Status int
	Err    error
}

// Error is that of Err.
func (e *ExplainError) Error() string { return fmt.Sprintf("explain: status %d: %v", e.Status, e.Err) }

// Unwrap is Err.
func (e *ExplainError) Unwrap() error { return e.Err }

func (e *Exporter) mayExplain(peer catalog.ClusterName) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.told[peer]
	return t != nil && t.explains.take(time.Now())
}
