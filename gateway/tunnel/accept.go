package tunnel

import (
	"context"
	"crypto/x509"
	"errors"

	"github.com/quic-go/quic-go"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// accept takes connections until the listener is closed. It must not wait for
// any of them: only 32 may queue up.
func (n *Node) accept(ctx context.Context, listener *quic.Listener) error {
	for {
		qc, err := listener.Accept(ctx)
		if err != nil {
			return err
		}
		if !n.gate.complete(qc) {
			n.metrics.accepted.WithLabelValues(wire.Overloaded.String()).Inc()
			// Not here: closing waits for the connection's own goroutine.
			n.spawn(func() {
				_ = qc.CloseWithError(quic.ApplicationErrorCode(wire.Overloaded), wire.Overloaded.String())
			})
			continue
		}
		if !n.spawn(func() { n.serveAccepted(ctx, qc) }) {
			_ = qc.CloseWithError(quic.ApplicationErrorCode(wire.Draining), wire.Draining.String())
		}
	}
}

// serveAccepted serves one connection that a peer dialed.
func (n *Node) serveAccepted(ctx context.Context, qc *quic.Conn) {
	if isJoin(qc) {
		n.serveJoin(ctx, qc)
		return
	}
	n.serveChannel(ctx, qc, ownAtStart(qc))
}

// serveChannel serves one whose handshake is over, of either lane; before is our
// certificate when that began.
func (n *Node) serveChannel(ctx context.Context, qc channel, before *x509.Certificate) {
	c, err := n.admit(qc, before)
	if err != nil {
		n.metrics.accepted.WithLabelValues(reasonOf(err)).Inc()
		_ = qc.CloseWithError(quic.ApplicationErrorCode(wire.Revoked), wire.Revoked.String())
		return
	}
	defer n.forget(c, wire.Internal)
	s, frames, err := n.welcome(ctx, c)
	if err != nil {
		if !c.alive() {
			err = c.ended()
		}
		status := refusalStatus(err)
		n.metrics.accepted.WithLabelValues(welcomeReason(err)).Inc()
		n.log.Warn("connection refused", "cluster", c.remote.Cluster, "gateway", c.remote.Gateway, "spiffe_id", c.remote.ID.String(),
			"address", qc.RemoteAddr().String(), "reason", welcomeReason(err), "err", err)
		c.end(status, err)
		return
	}
	n.metrics.accepted.WithLabelValues("ok").Inc()
	if c.number == controlNumber {
		n.serveControl(c, s, frames)
		return
	}
	endHello(c, s)
	defer c.link.Load().detach(c)
	n.serve(c)
	if !c.alive() {
		c.heed()
	}
}

// welcomeReason is reasonOf for a hello that was refused by us.
func welcomeReason(err error) string {
	if e, ok := errors.AsType[*closeError](err); ok {
		return e.status.String()
	}
	return reasonOf(err)
}

// welcome exchanges hellos and gives the connection its place in a link.
func (n *Node) welcome(ctx context.Context, c *connection) (duplex, *wire.FrameReader, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	s, frames, hello, err := n.hearHello(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	c.number = hello.Connection
	if n.draining.Load() || n.left.Load() && c.number == controlNumber {
		return nil, nil, refuseHello(wire.Draining, "draining")
	}
	if c.number == controlNumber {
		l := n.newLink(c.lane(), hello.Link, c.remote, hello.Instance, c.qc.RemoteAddr().String())
		l.agree(hello)
		if l.lane == LaneTLS {
			l.pool = newPool(l)
		}
		c.link.Store(l)
		l.attach(c)
		if !n.adopt(l) {
			return nil, nil, refuseHello(wire.Overloaded, "link exists, or too many of this gateway")
		}
		if err := n.answerHello(s, hello); err != nil {
			return nil, nil, err
		}
		l.up()
		n.log.Info("link is up", "cluster", l.remote.Cluster, "gateway", l.remote.Gateway, "address", l.address, "lane", string(l.lane))
		n.hasLeft(l)
		n.kick(l.remote)
		if !n.canDial(l.remote) {
			l.out.askCallback()
		}
		return s, frames, nil
	}
	l := n.accepted(c.remote, hello.Link)
	if l == nil || l.instance != hello.Instance || l.lane != c.lane() {
		return nil, nil, refuseHello(wire.WrongPeer, "no such link")
	}
	if err := n.answerHello(s, hello); err != nil {
		return nil, nil, err
	}
	if c.number >= callbackNumber && c.number < poolNumber {
		if c.client, err = n.newClient(ctx, c); err != nil {
			return nil, nil, err
		}
	}
	c.link.Store(l)
	if !l.attach(c) {
		return nil, nil, refuseHello(wire.Protocol, "connection %d exists, or its link has ended", c.number)
	}
	return s, frames, nil
}

// accepted finds a link that a peer dialed.
func (n *Node) accepted(remote Remote, id wire.ID) *link {
	n.mu.Lock()
	defer n.mu.Unlock()
	for l := range n.links {
		if !l.dialed && l.id == id && l.remote == remote {
			return l
		}
	}
	return nil
}

// adopt takes a new link in; false refuses it.
func (n *Node) adopt(l *link) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopped {
		return false
	}
	same := 0
	for o := range n.links {
		if !l.dialed && !o.dialed && o.remote == l.remote {
			if same++; o.id == l.id {
				return false
			}
		}
	}
	if same >= maxLinksPerGateway {
		return false
	}
	n.links[l] = struct{}{}
	return true
}

// linkEnded is called by a link that has closed.
func (n *Node) linkEnded(l *link) {
	cause := l.cause()
	n.mu.Lock()
	_, known := n.links[l]
	delete(n.links, l)
	n.rebuild()
	last := true
	for o := range n.links {
		last = last && o.remote != l.remote
	}
	n.mu.Unlock()
	if !known {
		return
	}
	if last {
		n.metrics.forgetGateway(l.remote)
	}
	info := l.info()
	if n.knows(l.remote.Cluster) {
		n.metrics.closed.WithLabelValues(l.remote.Cluster, info.Reason).Inc()
	}
	log := n.log.Warn
	if cause.Status == wire.Draining || cause.Status == wire.Replaced {
		log = n.log.Info
	}
	log("link is down", "cluster", l.remote.Cluster, "gateway", l.remote.Gateway, "address", l.address,
		"reason", info.Reason, "duration", info.Since.Sub(l.born), "count", info.Streams, "err", cause.Err)
	notify(n.changes)
}
