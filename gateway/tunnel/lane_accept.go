package tunnel

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel/lane"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// TLSOptions configure the TLS lane.
type TLSOptions struct {
	// Listener accepts TCP connections of peers, on the number of PacketConn's port;
	// nil accepts none. The node closes it.
	Listener net.Listener
	// Dial opens TCP connections to peers; default a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// acceptPause is the wait after an Accept that failed, as it does without descriptors.
const acceptPause = 50 * time.Millisecond

// acceptLane takes TCP connections until the listener is closed.
func (n *Node) acceptLane(ctx context.Context) {
	for {
		raw, err := n.o.TLS.Listener.Accept()
		if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
			return
		}
		if err != nil {
			n.log.Warn("cannot accept on the tls lane", "err", err)
			if !sleep(ctx, acceptPause) {
				return
			}
			continue
		}
		if !n.gate.admitLane() {
			n.metrics.accepted.WithLabelValues(wire.Overloaded.String()).Inc()
			_ = raw.Close() // a stranger is told nothing
			continue
		}
		if !n.spawn(func() { n.serveLane(ctx, raw) }) {
			n.gate.leaveLane()
			_ = raw.Close()
		}
	}
}

// serveLane serves one TCP connection.
func (n *Node) serveLane(ctx context.Context, raw net.Conn) {
	defer n.gate.leaveLane()
	before := n.o.Identity.Certificate()
	c, err := n.greet(ctx, raw)
	if err != nil {
		n.metrics.accepted.WithLabelValues(reasonOf(err)).Inc()
		return
	}
	n.serveChannel(ctx, c, before)
	<-c.Context().Done()
	c.Wait()
}

// greet performs the handshake with a stranger.
func (n *Node) greet(ctx context.Context, raw net.Conn) (*lane.Conn, error) {
	if !n.gate.greet() {
		_ = raw.Close()
		return nil, errBusy
	}
	defer n.gate.greeted()
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	config := n.o.Identity.ServerTLS([]string{alpnLane, alpnLaneHTTP, alpnLaneCallback}, n.authorize)
	return lane.Server(ctx, raw, config)
}

// endHello ends the stream of the hellos on a connection that is not the control
// connection.
func endHello(c *connection, s duplex) {
	if c.tcp != nil {
		c.tcp.Release()
		return
	}
	_ = s.Close()
	s.CancelRead(0)
}
