package mesh

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// conns are the live connections whose handshake is done.
type conns struct {
	admit   func([]*x509.Certificate) admission
	metrics *metrics

	mu   sync.Mutex
	live map[net.Conn]*live
}

type live struct {
	certs []*x509.Certificate
	kind  string
	until time.Time // the certificates are valid
}

// admission is what a handshake decides: who is it, what may it do, and until when
// do the certificates prove that. reason is "" for yes.
type admission struct {
	id     spiffeid.ID
	role   role
	until  time.Time
	reason string
}

func newConns(admit func([]*x509.Certificate) admission, m *metrics) *conns {
	return &conns{admit: admit, metrics: m, live: make(map[net.Conn]*live)}
}

// admit decides what a handshake does, again.
func (s *Server) admit(certs []*x509.Certificate) admission {
	id, until, err := s.opts.Identity.VerifyPeerUntil(certs)
	if err != nil {
		return admission{id: id, reason: "untrusted"}
	}
	r, err := s.roles.of(id)
	if err != nil {
		return admission{id: id, reason: "unauthorized"}
	}
	return admission{id: id, role: r, until: until}
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
		a := c.admit(certs)
		c.live[conn] = &live{certs: certs, kind: a.role.kind(), until: a.until}
		c.metrics.connections.WithLabelValues(a.role.kind()).Inc()
		c.mu.Unlock()
		if a.reason != "" {
			c.metrics.cut.WithLabelValues(a.reason).Inc()
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
// they were. Of those that are due only, where nothing else than time has passed
// since the last recheck of all.
func (c *conns) recheck(all bool, now time.Time) map[spiffeid.ID]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	gone := make(map[spiffeid.ID]string)
	for conn, l := range c.live {
		if !all && !now.After(l.until) {
			continue
		}
		a := c.admit(l.certs)
		if l.until = a.until; a.reason == "" {
			continue
		}
		gone[a.id] = a.reason
		c.metrics.cut.WithLabelValues(a.reason).Inc()
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
