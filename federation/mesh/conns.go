package mesh

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"sync"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// conns are the live connections whose handshake is done.
type conns struct {
	admit   func([]*x509.Certificate) (spiffeid.ID, role, string)
	metrics *metrics

	mu   sync.Mutex
	live map[net.Conn]*live
}

type live struct {
	certs []*x509.Certificate
	kind  string
}

func newConns(admit func([]*x509.Certificate) (spiffeid.ID, role, string), m *metrics) *conns {
	return &conns{admit: admit, metrics: m, live: make(map[net.Conn]*live)}
}

// admit is what a handshake decides, asked again: who is it, and what may it do.
// reason is "" for yes.
func (s *Server) admit(certs []*x509.Certificate) (id spiffeid.ID, r role, reason string) {
	id, err := s.opts.Identity.VerifyPeer(certs)
	if err != nil {
		return id, r, "untrusted"
	}
	if r, err = s.roles.of(id); err != nil {
		return id, r, "unauthorized"
	}
	return id, r, ""
}

// state is http.Server's hook. The first state after the handshake enters the
// connection; it is judged after it was entered, so that no change of peers can
// fall between the handshake's judgement and the next recheck.
func (c *conns) state(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateActive, http.StateIdle:
		t, ok := conn.(*tls.Conn)
		if !ok {
			return
		}
		c.mu.Lock()
		_, known := c.live[conn]
		c.mu.Unlock()
		if known {
			return
		}
		certs := t.ConnectionState().PeerCertificates
		c.mu.Lock()
		_, r, reason := c.admit(certs)
		c.live[conn] = &live{certs: certs, kind: r.kind()}
		c.metrics.connections.WithLabelValues(r.kind()).Inc()
		c.mu.Unlock()
		if reason != "" {
			c.metrics.cut.WithLabelValues(reason).Inc()
			cut(conn)
		}
	case http.StateClosed:
		c.forget(conn)
	case http.StateNew, http.StateHijacked: // what a handler takes over lives until that ends
	}
}

// forget is called when a connection has ended.
func (c *conns) forget(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l, ok := c.live[conn]; ok {
		delete(c.live, conn)
		c.metrics.connections.WithLabelValues(l.kind).Dec()
	}
}

// recheck cuts every connection that would not be admitted now and says whose
// they were.
func (c *conns) recheck() map[spiffeid.ID]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	gone := make(map[spiffeid.ID]string)
	for conn, l := range c.live {
		id, _, reason := c.admit(l.certs)
		if reason == "" {
			continue
		}
		gone[id] = reason
		c.metrics.cut.WithLabelValues(reason).Inc()
		cut(conn)
	}
	return gone
}

// takeovers are the handlers that have taken a connection out of the HTTP server's
// hands, which no longer waits for them.
type takeovers struct {
	mu      sync.Mutex
	ended   bool
	running sync.WaitGroup
}

// begin reports whether one more may be taken.
func (t *takeovers) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return false
	}
	t.running.Add(1)
	return true
}

// wait lets nobody begin any more, and waits for those that have.
func (t *takeovers) wait() {
	t.mu.Lock()
	t.ended = true
	t.mu.Unlock()
	t.running.Wait()
}

// cut closes a connection under its TLS: a close_notify could wait for a peer
// that does not read.
func cut(conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	_ = conn.Close()
}

// peerOf is who sent the request, as the handshake authenticated it.
func peerOf(r *http.Request) (spiffeid.ID, error) {
	if r.TLS == nil {
		return spiffeid.ID{}, errStranger
	}
	return identity.PeerID(*r.TLS)
}
