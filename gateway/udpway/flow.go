package udpway

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/account"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/datagram"
	"github.com/isthmus-mesh/isthmus/gateway/relay"
)

// flow is the datagrams of one address.
type flow struct {
	socket *Socket
	key    key
	target Target
	oob    []byte // sends by the address that the caller knows

	queue chan *packet
	bytes atomic.Int64 // that wait in queue
	moved atomic.Int64 // Unix nanoseconds of the last datagram either way
	ready chan struct{}
	// cancel is set when ready is closed.
	cancel context.CancelCauseFunc

	mu       sync.Mutex // of the entry, while the flow is served
	received *account.Bytes
	entry    *account.Entry
}

// packet is a datagram that waits.
type packet struct {
	n   int
	buf []byte
}

// packets hold datagrams of the usual sizes; others are made as they come.
var packets = sync.Pool{New: func() any { return &packet{buf: make([]byte, packetSize)} }}

// packetSize is the payload of Ethernet's largest frames but jumbo ones, and some.
const packetSize = 2 << 10

func newFlow(s *Socket, k key) *flow {
	f := &flow{socket: s, key: k, queue: make(chan *packet, queueDatagrams), ready: make(chan struct{})}
	if s.replies != nil {
		f.oob = s.replies.from(k.to)
	}
	f.moved.Store(time.Now().UnixNano())
	return f
}

// push queues a datagram, or drops it.
func (f *flow) push(p []byte) {
	f.moved.Store(time.Now().UnixNano())
	if f.bytes.Load()+int64(len(p)) > queueBytes {
		f.drop(datagram.DropQueue)
		return
	}
	q := packets.Get().(*packet)
	if len(p) > len(q.buf) {
		packets.Put(q)
		q = &packet{buf: make([]byte, len(p))}
	}
	q.n = copy(q.buf, p)
	f.bytes.Add(int64(q.n))
	select {
	case f.queue <- q:
	default:
		f.release(q)
		f.drop(datagram.DropQueue)
	}
}

func (f *flow) release(q *packet) {
	f.bytes.Add(-int64(q.n))
	if len(q.buf) == packetSize {
		packets.Put(q)
	}
}

func (f *flow) drop(reason string) {
	f.socket.way.o.Carrier.Metrics.Drop(account.WayUDP, reason)
}

func (f *flow) quiet() time.Duration { return time.Duration(time.Now().UnixNano() - f.moved.Load()) }

// end ends the flow.
func (f *flow) end(cause error) {
	select {
	case <-f.ready:
		f.cancel(cause)
	default: // it begins in this moment
	}
}

// serve carries the flow until it ends.
func (f *flow) serve(ctx context.Context) {
	defer f.socket.remove(f)
	if f.carry(ctx) {
		return
	}
	// Nobody is told no: what comes in the next moment would ask again, and be logged again.
	timer := time.NewTimer(refusedFor)
	defer timer.Stop()
	for {
		select {
		case q := <-f.queue:
			f.release(q)
			f.drop(datagram.DropRefused)
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// carry reports whether the service took it.
func (f *flow) carry(ctx context.Context) (taken bool) {
	w := f.socket.way
	call := attempt.Call{
		Service: f.target.Service, Port: f.target.Port, Pin: f.target.Pin, Caller: w.o.Caller, Source: f.key.from.Addr().String(),
	}
	e := w.o.Account.Begin(account.WayUDP)
	e.Listener, e.Service, e.Port, e.Caller = f.socket.address, call.Service, call.Port, call.Caller
	e.Sampled = w.o.Sample != nil && w.o.Sample()
	e.Trace = relay.NewTrace(e.Sampled)
	defer e.End()
	sequence, err := w.o.Router.Start(call)
	if err != nil {
		e.Reason, e.Err = datagram.Reason(ctx, err), err
		return false
	}
	e.Sequence = sequence
	ctx, release := sequence.Guard(ctx)
	defer release()
	sent, received := e.Counters()
	f.mu.Lock()
	f.entry, f.received = e, received
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		taken = taken || e.IsAnswered()
		f.entry = nil
		f.mu.Unlock()
	}()
	carried := w.o.Carrier.New(datagram.Options{
		Sequence: sequence, Way: account.WayUDP, TraceParent: e.Trace.String(), Deliver: f.deliver, Idle: w.o.Idle,
		Opened: func(a *attempt.Attempt, served datagram.Served) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			taken = true
			e.Cluster, e.Gateway, e.Endpoint = served.Cluster, served.Gateway, served.Endpoint
			e.Serve(served.Cluster, a.Choice.Price())
			return nil
		},
	})
	done := make(chan struct{})
	var pump sync.WaitGroup
	pump.Go(func() {
		for {
			select {
			case q := <-f.queue:
				carried.Send(q.buf[:q.n])
				sent.Add(float64(q.n))
				f.release(q)
			case <-done:
				return
			}
		}
	})
	err = carried.Run(ctx)
	close(done)
	pump.Wait()
	e.Attempts = sequence.Attempts()
	switch {
	case err == nil:
		taken = true // it was quiet, or the service has finished
	case errors.Is(err, errEvicted) || errors.Is(err, errClosed):
		taken = true
		e.Reason, e.Err = reasonEvicted, err
	default:
		e.Reason, e.Err = datagram.Reason(ctx, err), err
	}
	return taken
}

// reasonEvicted is that of a flow that the gateway ended for its own reasons.
const reasonEvicted = "evicted"

// deliver sends what the service says to the caller.
func (f *flow) deliver(p []byte) {
	f.moved.Store(time.Now().UnixNano())
	if _, _, err := f.socket.conn.WriteMsgUDPAddrPort(p, f.oob, f.key.from); err != nil {
		f.drop(datagram.DropSocket)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.entry == nil {
		return // it has just ended
	}
	if !f.entry.IsAnswered() {
		f.entry.Answered()
	}
	f.received.Add(float64(len(p)))
}
