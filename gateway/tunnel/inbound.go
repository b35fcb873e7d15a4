package tunnel

import (
	"errors"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// Inbound is the far end of a stream that a peer opened. One goroutine may read
// while another writes. Payload may be read before Accept.
type Inbound struct {
	// Header is what the peer said; Remote is who the peer is.
	Header wire.Header
	Remote Remote

	half
	link *link

	mu       sync.Mutex
	answered bool
}

var errAnswered = errors.New("stream is answered already")

// Accept sends the ok, at once: the near gateway learns that its bytes reached
// an endpoint. Payload that is written soon after travels in the same packet.
func (in *Inbound) Accept() error { return in.answer(wire.Reply{Status: wire.OK}) }

// Refuse answers with a typed refusal and ends the stream.
func (in *Inbound) Refuse(status wire.Status, message string) error {
	return in.RefuseWith(wire.Reply{Status: status, Message: message})
}

// RefuseWith is Refuse with a whole reply. A status of OK is sent as
// wire.Internal.
func (in *Inbound) RefuseWith(r wire.Reply) error {
	if r.Status == wire.OK {
		r.Status = wire.Internal
	}
	err := in.answer(r)
	if errors.Is(err, errAnswered) {
		return err
	}
	in.link.node.refusedBy(in.link, inboundDirection, r.Status)
	_ = in.closeWrite()
	in.closeRead(r.Status)
	return err
}

// answer writes the reply, once.
func (in *Inbound) answer(r wire.Reply) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.answered {
		return errAnswered
	}
	in.answered = true
	var buf [64]byte
	_, err := in.write(wire.AppendReply(buf[:0], r))
	return err
}

// accepted accepts the stream if that was not done yet.
func (in *Inbound) accepted() error {
	if err := in.Accept(); err != nil && !errors.Is(err, errAnswered) {
		return err
	}
	return nil
}

// Read reads payload. Half-close is io.EOF, a reset is *ResetError, the end of
// the link is *LinkError.
func (in *Inbound) Read(p []byte) (int, error) { return in.read(p) }

// Write writes payload, see [Stream.Write]; it accepts the stream if that was
// not done yet.
func (in *Inbound) Write(p []byte) (int, error) {
	if err := in.accepted(); err != nil {
		return 0, err
	}
	return in.write(p)
}

// CloseWrite half-closes, see [Stream.CloseWrite]; it accepts the stream if that
// was not done yet.
func (in *Inbound) CloseWrite() error {
	if err := in.accepted(); err != nil {
		return err
	}
	return in.closeWrite()
}

// CloseRead tells the other end to stop sending, see [Stream.CloseRead].
func (in *Inbound) CloseRead(status wire.Status) { in.closeRead(status) }

// Reset aborts both directions, see [Stream.Reset].
func (in *Inbound) Reset(status wire.Status) {
	in.mu.Lock()
	in.answered = true
	in.mu.Unlock()
	in.reset(status)
}

// Close ends the stream, see [Stream.Close]; one that was not answered is
// refused with wire.Internal.
func (in *Inbound) Close() error {
	if err := in.Refuse(wire.Internal, "not answered"); err != nil && !errors.Is(err, errAnswered) {
		in.reset(wire.Internal)
		return nil
	}
	in.end()
	return nil
}

// SetReadDeadline is as in net.Conn.
func (in *Inbound) SetReadDeadline(t time.Time) error { return in.setReadDeadline(t) }

// SetWriteDeadline is as in net.Conn.
func (in *Inbound) SetWriteDeadline(t time.Time) error { return in.setWriteDeadline(t) }

// serveStreams serves the streams that the peer opens on c, until c ends. It
// waits for their handlers.
func (n *Node) serveStreams(c *connection) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		qs, err := c.quic.AcceptStream(c.qc.Context())
		if err != nil {
			return
		}
		wg.Go(func() { n.serveStream(c, qs) })
	}
}

// serveStream serves one stream. The header is read here and not in the accept
// loop: the packet with it may have been lost while others came.
func (n *Node) serveStream(c *connection, qs duplex) {
	l := c.link.Load()
	in := &Inbound{Remote: c.remote, half: half{qs: qs, conn: c}, link: l}
	if status := n.enter(l); status != wire.OK {
		_ = in.Refuse(status, "")
		in.end()
		return
	}
	defer n.leave(l)
	if err := readHeader(qs, &in.Header); err != nil {
		n.log.Debug("malformed stream", "cluster", c.remote.Cluster, "gateway", c.remote.Gateway, "err", err)
		if !errors.Is(err, net.ErrClosed) { // the stream's own fault
			n.refusedBy(l, inboundDirection, wire.Protocol)
		}
		in.Reset(wire.Protocol)
		return
	}
	meter := &l.meters.streamIn
	if in.Header.Flow {
		meter = &l.meters.flowIn
		defer c.flows.drop(qs.StreamID())
	}
	meter.began()
	defer meter.ended()
	defer func() {
		if p := recover(); p != nil {
			n.log.Error("handler of a stream panicked", "cluster", c.remote.Cluster, "gateway", c.remote.Gateway,
				"service", in.Header.Service, "err", p, "reason", string(debug.Stack()))
			in.Reset(wire.Internal)
		}
	}()
	n.o.Handler.ServeStream(c.qc.Context(), in)
	if !in.over.Load() {
		_ = in.Close()
	}
}

// readHeader reads kind and header of a stream, in time.
func readHeader(qs duplex, h *wire.Header) error {
	_ = qs.SetReadDeadline(time.Now().Add(headerTimeout))
	kind, err := wire.ReadKind(qs)
	if err != nil {
		return err
	}
	if kind != wire.KindStream && kind != wire.KindFlow {
		return &wire.ParseError{Part: "stream kind " + kind.String(), Rule: "is not served"}
	}
	if err := wire.ReadHeader(qs, h); err != nil {
		return err
	}
	h.Flow = kind == wire.KindFlow
	return qs.SetReadDeadline(time.Time{})
}

// enter gives an inbound stream or request its place; anything but wire.OK
// refuses it, and leave must then not be called.
func (n *Node) enter(l *link) wire.Status {
	if l.refusesInbound() {
		return wire.Draining
	}
	if l.inbound.Add(1) > int64(n.o.MaxStreamsPerLink) {
		l.inbound.Add(-1)
		return wire.Overloaded
	}
	if n.inbound.Add(1) > int64(n.o.MaxStreams) {
		n.streamEnded(&n.inbound)
		l.inbound.Add(-1)
		return wire.Overloaded
	}
	l.streams.Add(1)
	return wire.OK
}

func (n *Node) leave(l *link) {
	l.streams.Add(-1)
	l.inbound.Add(-1)
	n.streamEnded(&n.inbound)
}
