package tunnel

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// The first stream of every connection carries a hello each way, whatever the
// connection is for. What follows it (streams, HTTP/3) starts after it, so
// nothing else has to ask whether the other end is who it should be.

// closeError is a refusal with a status for the peer.
type closeError struct {
	status wire.Status
	err    error
}

func (e *closeError) Error() string { return e.status.String() + ": " + e.err.Error() }

func (e *closeError) Unwrap() error { return e.err }

func refuseHello(status wire.Status, format string, args ...any) error {
	return &closeError{status: status, err: fmt.Errorf(format, args...)}
}

// refusalStatus is what the peer is told when its hello failed with err.
func refusalStatus(err error) wire.Status {
	if e, ok := errors.AsType[*closeError](err); ok {
		return e.status
	}
	if _, ok := errors.AsType[*wire.ParseError](err); ok {
		return wire.Protocol
	}
	return wire.Internal
}

func (n *Node) ownHello(link wire.ID, number uint32) *wire.Hello {
	return &wire.Hello{
		MinVersion: wire.Version1, MaxVersion: wire.Version1,
		Cluster: n.o.Cluster, Gateway: n.o.Gateway,
		Instance: n.instance, Link: link, Connection: number, Features: n.features.Load(),
	}
}

// checkHello compares what the peer says with what is known.
func (n *Node) checkHello(own, peer *wire.Hello, remote Remote) error {
	if _, ok := wire.Negotiate(own, peer); !ok {
		return refuseHello(wire.Version, "peer speaks versions %d to %d", peer.MinVersion, peer.MaxVersion)
	}
	if peer.Cluster != remote.Cluster || peer.Gateway != remote.Gateway {
		return refuseHello(wire.WrongPeer, "%s calls itself gateway %q of cluster %q", remote.ID, peer.Gateway, peer.Cluster)
	}
	if peer.Instance == n.instance {
		return refuseHello(wire.WrongPeer, "connected to itself")
	}
	return nil
}

// sayHello is the dialing side. It returns the control stream, standing after the
// hellos, and the peer's hello.
func (n *Node) sayHello(ctx context.Context, c *connection, link wire.ID, number uint32) (duplex, *wire.FrameReader, *wire.Hello, error) {
	s, err := c.openControl(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	own := n.ownHello(link, number)
	b, err := wire.AppendHello(wire.AppendKind(nil, wire.KindControl), own)
	if err != nil {
		return nil, nil, nil, err
	}
	setDeadline(ctx, s)
	if _, err := s.Write(b); err != nil {
		return nil, nil, nil, err
	}
	frames := wire.NewFrameReader(s)
	peer, err := readHello(frames)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := n.checkHello(own, peer, c.remote); err != nil {
		return nil, nil, nil, err
	}
	if peer.Link != link || peer.Connection != number {
		return nil, nil, nil, refuseHello(wire.Protocol, "hello answers for another connection")
	}
	_ = s.SetDeadline(time.Time{})
	return s, frames, peer, nil
}

// hearHello is the accepting side up to the peer's hello; the answer is sent by
// the caller once the connection has its place.
func (n *Node) hearHello(ctx context.Context, c *connection) (duplex, *wire.FrameReader, *wire.Hello, error) {
	s, err := c.acceptControl(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	setDeadline(ctx, s)
	kind, err := wire.ReadKind(s)
	if err != nil {
		return nil, nil, nil, err
	}
	if kind != wire.KindControl {
		return nil, nil, nil, refuseHello(wire.Protocol, "first stream is of kind %q", kind)
	}
	frames := wire.NewFrameReader(s)
	peer, err := readHello(frames)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := n.checkHello(n.ownHello(peer.Link, peer.Connection), peer, c.remote); err != nil {
		return nil, nil, nil, err
	}
	if want := alpnOf(c.lane(), peer.Connection); want != c.qc.ConnectionState().TLS.NegotiatedProtocol {
		return nil, nil, nil, refuseHello(wire.Protocol, "connection %d is not of protocol %s", peer.Connection, want)
	}
	return s, frames, peer, nil
}

func readHello(frames *wire.FrameReader) (*wire.Hello, error) {
	t, body, err := frames.Next()
	if err != nil {
		return nil, err
	}
	if t != wire.FrameHello {
		return nil, refuseHello(wire.Protocol, "first frame is a %s", t)
	}
	h, err := wire.ParseHello(body)
	return &h, err
}

// answerHello sends the accepting side's hello.
func (n *Node) answerHello(s duplex, peer *wire.Hello) error {
	b, err := wire.AppendHello(nil, n.ownHello(peer.Link, peer.Connection))
	if err != nil {
		return err
	}
	if _, err := s.Write(b); err != nil {
		return err
	}
	return s.SetDeadline(time.Time{})
}

// openControl opens the first stream of a connection.
func (c *connection) openControl(ctx context.Context) (duplex, error) {
	if c.tcp != nil {
		return c.tcp.Open(), nil
	}
	s, err := c.quic.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	s.SetPriority(0, false) // before all payload
	return s, nil
}

// acceptControl accepts it at the other end.
func (c *connection) acceptControl(ctx context.Context) (duplex, error) {
	if c.tcp != nil {
		stop := context.AfterFunc(ctx, func() { c.cut(wire.DeadlineExceeded) })
		defer stop()
		return c.tcp.Accept()
	}
	s, err := c.quic.AcceptStream(ctx)
	if err != nil {
		return nil, err
	}
	s.SetPriority(0, false) // before all payload
	return s, nil
}

// setDeadline gives a stream the context's deadline.
func setDeadline(ctx context.Context, s duplex) {
	if d, ok := ctx.Deadline(); ok {
		_ = s.SetDeadline(d)
	}
}
