package tunnel

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/quic-go/quic-go"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// A flow is a stream that carries datagrams: those that a QUIC datagram holds as such,
// others one after the other on the stream (package wire). Nothing queues here: Send waits
// for what QUIC has to send before, so that what comes faster than the path carries is
// dropped where it comes from, at the sockets.

// Deliver takes a datagram that came in. It is called from several goroutines at once,
// keeps nothing of p, and must not wait: the connection's other flows do, and QUIC drops what
// nobody fetches.
type Deliver func(p []byte)

// Flow is the near end of a flow. One goroutine may send while another receives. Every flow
// must be ended, by Close or by Reset.
type Flow struct {
	flowEnd
	stream *Stream
}

// flowEnd is what both ends of a flow share.
type flowEnd struct {
	half    *half
	link    *link
	deliver Deliver
	// quick says that the connection has room for QUIC datagrams, settled that the other
	// end knows the flow.
	quick   bool
	settled atomic.Bool
}

// OpenFlow opens a flow to cluster over its best link and sends h and first, datagrams that
// the caller has sent already, in one flight. It is as OpenStream otherwise. deliver may be
// called before OpenFlow returns.
func (n *Node) OpenFlow(ctx context.Context, cluster string, h *wire.Header, first [][]byte, deliver Deliver) (*Flow, error) {
	header := *h
	header.Flow = true
	buf := flowBuffers.Get().(*[]byte)
	defer flowBuffers.Put(buf)
	frames := (*buf)[:0]
	for _, p := range first {
		var err error
		if frames, err = wire.AppendFlowFrame(frames, p); err != nil {
			return nil, err
		}
	}
	f := &Flow{}
	_, err := n.openStream(ctx, cluster, &header, frames, func(s *Stream) {
		// Before a byte of it is sent: an answer may overtake the reply.
		f.forget() // of another connection that took nothing
		f.stream = s
		f.begin(&s.half, s.link, deliver)
	})
	if err != nil {
		f.forget()
		return nil, err
	}
	return f, nil // its stream is the one that began last
}

// Remote is the gateway at the other end.
func (f *Flow) Remote() Remote { return f.stream.Remote() }

// Status waits for the far gateway's answer, see [Stream.Status].
func (f *Flow) Status(ctx context.Context) (wire.Reply, error) {
	reply, err := f.stream.Status(ctx)
	if err == nil && reply.Status == wire.OK {
		f.settled.Store(true)
	}
	return reply, err
}

// Send sends a datagram, and waits while the connection cannot take it. An error means that
// the flow has ended; Receive says why.
func (f *Flow) Send(p []byte) error { return f.send(p) }

// Receive hands datagrams to deliver until the flow ends, and returns why: io.EOF when the
// other end finished, *ResetError, *RefusedError, *LinkError or *wire.ParseError. It belongs
// to who called Status.
func (f *Flow) Receive() error { return f.receive(f.stream) }

// Leaving has f called in a goroutine of its own when the other end says that it drains, or
// the link ends. stop takes that back.
func (f *Flow) Leaving(call func()) (stop func() bool) {
	return context.AfterFunc(f.stream.link.staying, call)
}

// Reset ends the flow with a reason, see [Stream.Reset].
func (f *Flow) Reset(status wire.Status) {
	f.forget()
	f.stream.Reset(status)
}

// Close ends the flow in order, see [Stream.Close].
func (f *Flow) Close() error {
	f.forget()
	return f.stream.Close()
}

// InboundFlow is the far end of a flow. What is accepted, refused and reset is its Inbound.
type InboundFlow struct {
	flowEnd
	in *Inbound
}

// Flow makes the stream of a flow (Header.Flow) take datagrams: call it before Accept.
func (in *Inbound) Flow(deliver Deliver) *InboundFlow {
	f := &InboundFlow{in: in}
	f.begin(&in.half, in.link, deliver)
	f.settled.Store(true)
	return f
}

// Send sends a datagram, as [Flow.Send]. The flow must have been accepted.
func (f *InboundFlow) Send(p []byte) error { return f.send(p) }

// Receive hands datagrams to deliver until the flow ends, as [Flow.Receive].
func (f *InboundFlow) Receive() error { return f.receive(f.in) }

// begin gives the flow its place in its connection.
func (e *flowEnd) begin(h *half, l *link, deliver Deliver) {
	e.half, e.link, e.deliver = h, l, deliver
	supports := h.conn.qc.ConnectionState().SupportsDatagrams
	e.quick = h.conn.number != controlNumber && supports.Local && supports.Remote
	h.conn.flows.put(h.qs.StreamID(), e)
}

// forget takes it away again.
func (e *flowEnd) forget() {
	if e.half != nil {
		e.half.conn.flows.remove(e.half.qs.StreamID(), e)
	}
}

// flowBuffers hold one datagram with what stands before it.
var flowBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 2<<10); return &b }}

func (e *flowEnd) send(p []byte) error {
	buf := flowBuffers.Get().(*[]byte)
	defer flowBuffers.Put(buf)
	c := e.half.conn
	if e.half.over.Load() {
		return &ResetError{Status: wire.Canceled}
	}
	if e.quick && e.settled.Load() {
		b := wire.AppendFlowDatagram((*buf)[:0], uint64(e.half.qs.StreamID()))
		b = append(b, p...)
		*buf = b
		err := c.qc.SendDatagram(b) // copies
		if err == nil {
			e.link.meters.datagramOut.Inc()
			return nil
		}
		if _, large := errors.AsType[*quic.DatagramTooLargeError](err); !large {
			return c.streamError(err)
		}
	}
	b, err := wire.AppendFlowFrame((*buf)[:0], p)
	if err != nil {
		return err
	}
	*buf = b
	if _, err := e.half.write(b); err != nil {
		return err
	}
	e.link.meters.frameOut.Inc()
	return nil
}

// receive reads the datagrams on the stream.
func (e *flowEnd) receive(r io.Reader) error {
	defer e.forget()
	for {
		n, err := wire.ReadFlowLength(r)
		if err == nil {
			err = e.take(r, n)
		}
		if err != nil {
			return err
		}
	}
}

// take reads a datagram of n bytes and delivers it.
func (e *flowEnd) take(r io.Reader, n int) error {
	buf := flowBuffers.Get().(*[]byte)
	defer flowBuffers.Put(buf)
	*buf = slices.Grow((*buf)[:0], n)
	p := (*buf)[:n]
	if _, err := io.ReadFull(r, p); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return &wire.ParseError{Part: "datagram", Rule: "stopped in the middle"}
		}
		return err
	}
	e.link.meters.frameIn.Inc()
	e.deliver(p)
	return nil
}

// flowTable finds the flows of a connection.
type flowTable struct {
	mu   sync.RWMutex
	ends map[quic.StreamID]*flowEnd
}

func (t *flowTable) put(id quic.StreamID, e *flowEnd) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ends == nil {
		t.ends = make(map[quic.StreamID]*flowEnd)
	}
	t.ends[id] = e
}

func (t *flowTable) remove(id quic.StreamID, e *flowEnd) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ends[id] == e {
		delete(t.ends, id)
	}
}

func (t *flowTable) drop(id quic.StreamID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.ends, id)
}

func (t *flowTable) find(id quic.StreamID) *flowEnd {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.ends[id]
}

// receiveDatagrams hands the QUIC datagrams of c to its flows, until c ends. The control
// connection's are probes.
func (n *Node) receiveDatagrams(c *connection) {
	l := c.link.Load()
	for {
		b, err := c.quic.ReceiveDatagram(c.qc.Context())
		if err != nil {
			return
		}
		id, p, is, err := wire.ParseFlowDatagram(b)
		if err != nil {
			n.log.Warn("peer broke the protocol", "cluster", l.remote.Cluster, "gateway", l.remote.Gateway, "err", err)
			c.end(wire.Protocol, err)
			return
		}
		if !is {
			continue
		}
		e := c.flows.find(quic.StreamID(id))
		if e == nil {
			l.meters.datagramLost.Inc()
			continue
		}
		l.meters.datagramIn.Inc()
		e.deliver(p)
	}
}

// flowCarriers are the connections that a flow may be opened on: not the control
// connection, where there is another, since probes must not wait behind datagrams.
func (l *link) flowCarriers() []*connection {
	all := *l.raw.Load()
	others := all
	if len(all) > 0 && all[0].number == controlNumber { // they are in order
		others = all[1:]
	}
	if slices.ContainsFunc(others, (*connection).alive) {
		return others
	}
	return all
}
