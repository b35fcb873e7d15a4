package workload

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/prometheus/client_golang/prometheus"
)

// The sides of a handshake, a label.
const (
	sideIn  = "in"
	sideOut = "out"
)

// Live knows the mTLS connections with workloads that are open. It is made once and
// shared by the doors and the dialer.
type Live struct {
	metrics *metrics

	mu    sync.Mutex
	conns map[*connection]struct{}
}

// connection is one of them.
type connection struct {
	source *identity.Source
	side   string
	chain  []*x509.Certificate
	end    func(error)
	ended  bool // under Live.mu
}

// NewLive returns an empty set; nil registers no metrics.
func NewLive(r prometheus.Registerer) (*Live, error) {
	m := newMetrics()
	if err := m.register(r); err != nil {
		return nil, err
	}
	return &Live{metrics: m, conns: make(map[*connection]struct{})}, nil
}

// add keeps a connection until the returned function is called, which may be twice. It
// ends one whose root has gone since its handshake: no sweep would find it any more.
func (l *Live) add(c *connection) (remove func()) {
	l.mu.Lock()
	l.conns[c] = struct{}{}
	l.metrics.open.WithLabelValues(c.side).Inc()
	l.mu.Unlock()
	l.judge(c, untrusted(c.source, c.chain))
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.conns, c)
		l.metrics.open.WithLabelValues(c.side).Dec()
	})
}

// judge ends a connection, once, where the verdict is against it.
func (l *Live) judge(c *connection, verdict error) {
	if verdict == nil {
		return
	}
	l.mu.Lock()
	ended := c.ended
	c.ended = true
	l.mu.Unlock()
	if !ended {
		l.metrics.ended.WithLabelValues(c.side, Reason(verdict)).Inc()
		c.end(&RevokedError{Err: verdict})
	}
}

// Follow ends connections whose certificate no longer leads to a root of source, when
// its roots change, until ctx ends.
func (l *Live) Follow(ctx context.Context, source *identity.Source) error {
	updates, cancel := source.Updates()
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-updates:
			l.sweep(source)
		}
	}
}

// sweep judges each certificate once, however many connections it has.
func (l *Live) sweep(source *identity.Source) {
	l.mu.Lock()
	var all []*connection
	for c := range l.conns {
		if c.source == source && !c.ended {
			all = append(all, c)
		}
	}
	l.mu.Unlock()
	judged := make(map[string]error)
	for _, c := range all {
		key := string(c.chain[0].Raw)
		verdict, known := judged[key]
		if !known {
			verdict = untrusted(source, c.chain)
			judged[key] = verdict
		}
		l.judge(c, verdict)
	}
}

// untrusted is why a chain leads to no root any more; nil while it does, and for what
// says nothing of roots: that a certificate has expired meanwhile ends nothing.
func untrusted(source *identity.Source, chain []*x509.Certificate) error {
	_, err := source.VerifyPeer(chain)
	if e, ok := errors.AsType[*identity.PeerError](err); ok {
		switch e.Reason {
		case identity.ReasonUntrustedChain, identity.ReasonUnknownTrustDomain:
			return e
		default:
		}
	}
	return nil
}

type metrics struct {
	handshakes *prometheus.CounterVec
	open       *prometheus.GaugeVec
	ended      *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		handshakes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_gateway_mtls_handshakes_total",
			Help: "mTLS handshakes with workloads, by side (in: they called, out: an endpoint was dialed) and result.",
		}, []string{"side", "result"}),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_gateway_mtls_connections", Help: "Open mTLS connections with workloads.",
		}, []string{"side"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_gateway_mtls_ended_total",
			Help: "Open mTLS connections with workloads that were ended because the peer's certificate leads to no root any more, by reason.",
		}, []string{"side", "reason"}),
	}
	for _, side := range []string{sideIn, sideOut} {
		m.open.WithLabelValues(side)
		m.handshakes.WithLabelValues(side, resultOK)
	}
	return m
}

func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{m.handshakes, m.open, m.ended} {
		if err := r.Register(c); err != nil {
			return fmt.Errorf("workload metrics: %w", err)
		}
	}
	return nil
}

func (l *Live) count(side string, err error) {
	l.metrics.handshakes.WithLabelValues(side, Reason(err)).Inc()
}
