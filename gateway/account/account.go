package account

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/prometheus/client_golang/prometheus"
)

// The ways.
const (
	WayTCP  = "tcp"
	WayHTTP = "http"
	// WayMTLS is a caller that proves who it is.
	WayMTLS = "mtls"
	// WaySNI is TLS that is carried as it is, by its server name.
	WaySNI = "sni"
	// WayProxy is HTTP CONNECT and SOCKS5.
	WayProxy = "proxy"
	// WayUDP is a flow of datagrams, and WayFlow one that a peer's gateway brings.
	WayUDP     = "udp"
	WayFlow    = "flow"
	WayStream  = "stream"
	WayRequest = "request"
	WayControl = "control"
	WayAdmin   = "admin"
	// WayDNS only counts connections that were refused.
	WayDNS = "dns"
	// WayJoin is a stranger who comes to join, and an own federation that goes to.
	WayJoin = "join"
)

// ReasonOK is the reason of what ended well.
const ReasonOK = "ok"

// Log says which entries are written to the access log.
type Log string

// The settings of the access log.
const (
	// LogAll writes every entry; LogErrors those whose reason is not ok; LogOff none.
	LogAll    Log = "all"
	LogErrors Log = "errors"
	LogOff    Log = "off"
)

// Valid reports whether l is one of the settings.
func (l Log) Valid() bool { return l == LogAll || l == LogErrors || l == LogOff }

// unknownService is the label of what is not in the table.
const unknownService = "unknown"

// Options configure an Account.
type Options struct {
	// Access says what is logged; "" means LogAll.
	Access Log
	// Log is the access log; nil discards it.
	Log *slog.Logger
	// Ended is told of every entry at its end, and keeps nothing of it; nil: nobody is.
	Ended func(e *Entry, took time.Duration)
	// Registerer receives the metrics; nil registers none.
	Registerer prometheus.Registerer
}

// Account takes entries.
type Account struct {
	access  Log
	ended   func(*Entry, time.Duration)
	log     *slog.Logger
	metrics *metrics
	known   atomic.Pointer[map[catalog.ServiceName]bool]
	flows   flows

	mu       sync.Mutex // orders the retirement of series and their use
	inFlight map[string]*atomic.Int64
}

// New returns an Account that knows no service yet.
func New(o Options) (*Account, error) {
	if o.Access == "" {
		o.Access = LogAll
	}
	if !o.Access.Valid() {
		return nil, errors.New("account: access must be all, errors or off")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	a := &Account{access: o.Access, ended: o.Ended, log: o.Log, metrics: m, inFlight: make(map[string]*atomic.Int64)}
	if o.Registerer != nil {
		if err := o.Registerer.Register(&a.flows); err != nil {
			return nil, fmt.Errorf("account metrics: %w", err)
		}
	}
	for _, way := range []string{WayTCP, WayHTTP, WayMTLS, WaySNI, WayProxy, WayUDP, WayStream, WayFlow, WayRequest, WayControl, WayJoin} {
		a.inFlight[way] = new(atomic.Int64)
		m.inFlight.WithLabelValues(way).Set(0)
	}
	return a, nil
}

// SetServices tells which services the table has. The series of others go.
func (a *Account) SetServices(known map[catalog.ServiceName]bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if old := a.known.Load(); old != nil {
		for service := range *old {
			if !known[service] {
				a.metrics.retire(service.String())
			}
		}
	}
	a.known.Store(&known)
	a.flows.retire(known)
}

// label is the value of a service's label.
func (a *Account) label(service catalog.ServiceName) string {
	if service.IsFederation() {
		return "federation" // one label for all of them
	}
	if known := a.known.Load(); known != nil && (*known)[service] {
		return service.String()
	}
	return unknownService
}

// InFlight is how many entries of a way are open.
func (a *Account) InFlight(way string) int64 { return a.inFlight[way].Load() }

// Entry is the account of one connection or request, from its start to its end.
// Its fields are set by one goroutine at a time until End.
type Entry struct {
	// Way is one of the ways; Listener is the address that it came in on, if it did.
	Way, Listener string
	Service       catalog.ServiceName
	Port          string
	// Caller is who asked, and Peer the cluster whose gateway said so.
	Caller string
	Peer   catalog.ClusterName
	// Cluster, Gateway and Endpoint are who served.
	Cluster           catalog.ClusterName
	Gateway, Endpoint string
	// Reason is why it ended, ReasonOK if well.
	Reason string
	// Status is the HTTP status; 0 where there is none.
	Status int
	// Attempts is how many were made.
	Attempts int
	// Sent and Received are payload bytes from the caller's view.
	Sent, Received atomic.Int64
	// Err is the cause of a reason, for the log.
	Err error
	// Trace is the caller's W3C trace, if it has one, RequestID its x-request-id.
	Trace     wire.TraceParent
	RequestID string
	// Sampled says that the call is of the share that is kept to be explained.
	Sampled bool
	// Sequence is the call's, for who explains it; nil where it was refused before.
	Sequence *attempt.Sequence

	account  *Account
	started  time.Time
	answered time.Duration

	// path is where its bytes go; pathSent and pathReceived are those counted there.
	path                   atomic.Pointer[path]
	pathSent, pathReceived atomic.Int64
}

// Begin opens an entry.
func (a *Account) Begin(way string) *Entry {
	a.metrics.inFlight.WithLabelValues(way).Set(float64(a.inFlight[way].Add(1)))
	return &Entry{Way: way, account: a, started: time.Now(), answered: -1}
}

// StartedAt is when the entry was opened.
func (e *Entry) StartedAt() time.Time { return e.started }

// AnsweredAfter is how long the service's first word took; below 0 if it never came.
func (e *Entry) AnsweredAfter() time.Duration { return e.answered }

// Answered marks the first word of the service.
func (e *Entry) Answered() { e.answered = time.Since(e.started) }

// IsAnswered reports whether Answered was called.
func (e *Entry) IsAnswered() bool { return e.answered >= 0 }

func (a *Account) bytes(e *Entry, direction string) prometheus.Counter {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.metrics.bytes.WithLabelValues(e.Way, a.label(e.Service), direction)
}

// End closes the entry: it is counted and logged. It must be called once.
func (e *Entry) End() {
	a := e.account
	if e.Reason == "" {
		e.Reason = ReasonOK
	}
	a.metrics.inFlight.WithLabelValues(e.Way).Set(float64(a.inFlight[e.Way].Add(-1)))
	a.mu.Lock()
	service := a.label(e.Service)
	a.metrics.requests.WithLabelValues(e.Way, service, string(e.Cluster), e.Reason).Inc()
	if e.answered >= 0 {
		a.metrics.seconds.WithLabelValues(e.Way, service).Observe(e.answered.Seconds())
	} else if e.Reason != ReasonOK {
		a.metrics.refused.WithLabelValues(e.Way, e.Reason).Inc()
	}
	a.mu.Unlock()
	if e.counts() {
		a.flows.take(e)
	}
	if a.ended != nil {
		a.ended(e, time.Since(e.started))
	}
	a.write(e)
}

// Refuse counts and logs what was refused before it had an entry.
func (a *Account) Refuse(way, listener, reason, address string) {
	a.metrics.refused.WithLabelValues(way, reason).Inc()
	if a.access != LogOff {
		a.log.Warn("connection refused", "listener", listener, "reason", reason, "address", address)
	}
}

func (a *Account) write(e *Entry) {
	if a.access == LogOff || (a.access == LogErrors && e.Reason == ReasonOK) {
		return
	}
	level := slog.LevelInfo
	if e.Reason != ReasonOK && !e.IsAnswered() {
		level = slog.LevelWarn
	}
	if !a.log.Enabled(context.Background(), level) {
		return
	}
	args := make([]any, 0, 36)
	add := func(key, value string) {
		if value != "" {
			args = append(args, key, value)
		}
	}
	add("source", e.Way)
	add("listener", e.Listener)
	add("service", e.Service.String())
	add("port", e.Port)
	add("caller", e.Caller)
	add("peer", string(e.Peer))
	add("cluster", string(e.Cluster))
	add("gateway", e.Gateway)
	add("endpoint", e.Endpoint)
	add("trace_id", e.Trace.TraceID)
	add("request_id", e.RequestID)
	add("reason", e.Reason)
	if e.Status != 0 {
		args = append(args, "status", e.Status)
	}
	if e.Attempts > 1 {
		args = append(args, "attempt", e.Attempts)
	}
	args = append(args, "count", e.Sent.Load()+e.Received.Load(), "duration", time.Since(e.started))
	if e.Err != nil {
		args = append(args, "err", e.Err)
	}
	a.log.Log(context.Background(), level, "access", args...)
}
