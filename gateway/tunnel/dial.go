package tunnel

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel/lane"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/liveness"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// authorize is the listener's authorizer: the roster decides.
func (n *Node) authorize(id spiffeid.ID) error {
	if _, ok := n.roster.Load().lookup(id); !ok {
		return errNotPeer
	}
	return nil
}

// dialed is a connection after the hellos.
type dialed struct {
	*connection
	control duplex
	frames  *wire.FrameReader
	hello   *wire.Hello
}

// dial opens connection number of link id and exchanges hellos. accepts says
// whether the gateway that answers is the right one. On success the caller must
// forget the connection in the end.
func (n *Node) dial(ctx context.Context, on Lane, addr net.Addr, id wire.ID, number uint32, accepts func(Remote) bool) (*dialed, error) {
	config := n.o.Identity.ClientTLS([]string{alpnOf(on, number)}, func(sid spiffeid.ID) error {
		remote, ok := n.roster.Load().lookup(sid)
		if !ok {
			return errNotPeer
		}
		if !accepts(remote) {
			return fmt.Errorf("%s answers in the place of another gateway", sid)
		}
		return nil
	})
	before := n.o.Identity.Certificate()
	qc, err := n.dialChannel(ctx, on, addr, config)
	if err != nil {
		return nil, err
	}
	c, err := n.admit(qc, before)
	if err != nil {
		_ = qc.CloseWithError(quic.ApplicationErrorCode(wire.Revoked), wire.Revoked.String())
		return nil, err
	}
	c.number = number
	s, frames, hello, err := n.sayHello(ctx, c, id, number)
	if err != nil {
		if c.alive() {
			_ = qc.CloseWithError(quic.ApplicationErrorCode(refusalStatus(err)), refusalStatus(err).String())
		} else {
			err = c.ended() // says more than the stream's error
		}
		n.forget(c, refusalStatus(err))
		return nil, err
	}
	return &dialed{connection: c, control: s, frames: frames, hello: hello}, nil
}

// dialChannel dials and performs the handshake.
func (n *Node) dialChannel(ctx context.Context, on Lane, addr net.Addr, config *tls.Config) (channel, error) {
	if on == LaneTLS {
		raw, err := n.o.TLS.Dial(ctx, "tcp", addr.String())
		if err != nil {
			return nil, err
		}
		c, err := lane.Client(ctx, raw, config)
		if err != nil {
			return nil, err
		}
		return c, nil
	}
	c, err := n.transport.Dial(ctx, addr, config, n.config)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// dialCounted is dial with its metrics.
func (n *Node) dialCounted(ctx context.Context, on Lane, cluster string, addr net.Addr, id wire.ID, number uint32, accepts func(Remote) bool) (*dialed, error) {
	start := time.Now()
	d, err := n.dial(ctx, on, addr, id, number, accepts)
	if !n.knows(cluster) {
		return d, err // no series for a cluster that has just been removed
	}
	if err != nil {
		n.metrics.dials.WithLabelValues(cluster, string(on), reasonOf(err)).Inc()
		return nil, err
	}
	n.metrics.dials.WithLabelValues(cluster, string(on), "ok").Inc()
	n.metrics.handshakes.WithLabelValues(cluster, string(on)).Observe(time.Since(start).Seconds())
	return d, nil
}

// knows reports whether a cluster is a peer.
func (n *Node) knows(cluster string) bool {
	_, ok := n.roster.Load().peers[cluster]
	return ok
}

// connect dials a link for t: the control connection first, then the others. It
// returns when the link can be used, or with the reason why not.
func (n *Node) connect(ctx context.Context, on Lane, t *target, w wanted, address string) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	addr, err := n.o.Resolve(ctx, address)
	if err != nil {
		return nil, err
	}
	id := newID()
	attempt, done := ctx, func() {}
	if on == LaneQUIC {
		attempt, done = t.untilHeard(ctx)
	}
	d, err := n.dialCounted(attempt, on, w.cluster, addr, id, controlNumber, w.accepts)
	done()
	if err != nil {
		return nil, err
	}
	l := n.newLink(on, id, d.remote, d.hello.Instance, address)
	l.dialed, l.owner = true, t
	l.agree(d.hello)
	if on == LaneTLS {
		l.pool = newPool(l) // before the peer can ask for a callback
	}
	d.link.Store(l)
	l.attach(d.connection)
	if !n.adopt(l) || !n.spawn(func() { n.serveControl(d.connection, d.control, d.frames) }) {
		l.close(wire.Draining, nil)
		n.forget(d.connection, wire.Draining)
		return nil, l.cause()
	}
	if l.pool != nil {
		n.spawn(func() { l.pool.keep(addr) })
	} else {
		for i := range uint32(n.o.Connections - 1) {
			n.spawn(func() { n.keepConnection(l, addr, controlNumber+1+i) })
		}
	}
	for i := range uint32(n.o.HTTPConnections) {
		n.spawn(func() { n.keepConnection(l, addr, httpNumber+i) })
	}
	// A link whose UDP path works but whose HTTP connections do not (a middlebox
	// that dislikes a second flow, say) still serves streams.
	wait := time.NewTimer(upTimeout)
	defer wait.Stop()
	select {
	case <-l.httpOpen:
	case <-wait.C:
	case <-l.ctx.Done():
		return nil, l.cause()
	}
	l.up()
	n.hasLeft(l)
	n.log.Info("link is up", "cluster", l.remote.Cluster, "gateway", l.remote.Gateway, "address", address, "lane", string(on), "duration", time.Since(l.born))
	return l, nil
}

// keepConnection keeps one connection of a dialed link, beside the control
// connection, for as long as the link takes streams.
func (n *Node) keepConnection(l *link, addr net.Addr, number uint32) {
	var b liveness.Backoff
	for {
		start := time.Now()
		err := n.serveDialed(l, addr, number, func() {})
		if l.ctx.Err() != nil || l.leaving() {
			return
		}
		n.log.Debug("connection of a link ended", "cluster", l.remote.Cluster, "gateway", l.remote.Gateway, "reason", reasonOf(err), "err", err)
		b.Ended(time.Since(start))
		if !sleep(l.ctx, b.Next(rand.Float64())) {
			return
		}
	}
}

// serveDialed dials one connection of a link and serves it until it ends; joined is
// called once it has its place.
func (n *Node) serveDialed(l *link, addr net.Addr, number uint32, joined func()) error {
	ctx, cancel := context.WithTimeout(l.ctx, handshakeTimeout)
	defer cancel()
	d, err := n.dialCounted(ctx, l.lane, l.remote.Cluster, addr, l.id, number, func(r Remote) bool { return r == l.remote })
	if err != nil {
		return err
	}
	c := d.connection
	defer n.forget(c, wire.Internal)
	if d.hello.Instance != l.instance {
		// A load balancer, or a process that took over: not this link's.
		err := refuseHello(wire.WrongPeer, "another process answers")
		c.end(wire.WrongPeer, err)
		return err
	}
	endHello(c, d.control)
	if number >= httpNumber && number < callbackNumber {
		if c.client, err = n.newClient(ctx, c); err != nil {
			c.end(wire.Internal, err)
			return err
		}
	}
	c.link.Store(l)
	if !l.attach(c) {
		c.end(wire.Replaced, nil)
		return l.cause()
	}
	defer l.detach(c)
	joined()
	n.serve(c)
	c.end(wire.Internal, nil) // it has ended, unless serving it failed
	c.heed()
	return c.ended()
}

// serve does what c is for until it ends.
func (n *Node) serve(c *connection) {
	switch {
	case c.client != nil:
		// Requests go out from RoundTrip; nothing comes in.
		c.link.Load().httpReady()
		<-c.qc.Context().Done()
	case c.tcp != nil && c.number >= poolNumber:
		n.serveTurns(c)
	case c.tcp != nil:
		n.serveRequests(c)
	case c.number >= callbackNumber:
		_ = n.callbackServer.ServeQUICConn(c.quic)
	case c.number >= httpNumber:
		_ = n.server.ServeQUICConn(c.quic)
	default:
		var wg sync.WaitGroup
		wg.Go(func() { n.receiveDatagrams(c) })
		n.serveStreams(c)
		wg.Wait()
	}
}

// sleep waits for d; false means that ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
