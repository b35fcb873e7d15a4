package datagram

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/retry"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// Flow is one flow. Run serves it; Send may be called meanwhile, also before.
type Flow struct {
	carrier *Carrier
	o       Options

	sent, received prometheus.Counter
	moved          atomic.Int64 // Unix nanoseconds of the last datagram
	idle           atomic.Int64 // the longest silence, in nanoseconds
	timer          *time.Timer  // that looks for it

	mu    sync.Mutex
	leg   leg
	start [][]byte // what may have to be sent again
	size  int
	final bool // no other choice comes

	opened bool // of Run
	// out and in count payload.
	out, in atomic.Int64
}

// New returns a Flow.
func (c *Carrier) New(o Options) *Flow {
	f := &Flow{
		carrier: c, o: o,
		sent:     c.Metrics.moved.WithLabelValues(o.Way, "sent"),
		received: c.Metrics.moved.WithLabelValues(o.Way, "received"),
	}
	f.moved.Store(time.Now().UnixNano())
	f.idle.Store(int64(o.Idle))
	return f
}

// Send sends a datagram to the service, and waits while a link cannot take it.
func (f *Flow) Send(p []byte) {
	f.moved.Store(time.Now().UnixNano())
	f.mu.Lock()
	if !f.final && len(f.start) < keepDatagrams && f.size+len(p) <= keepBytes {
		f.start = append(f.start, slices.Clone(p))
		f.size += len(p)
	}
	l := f.leg
	f.mu.Unlock()
	f.sent.Inc()
	f.out.Add(int64(len(p)))
	if l != nil {
		l.send(p)
	}
}

// deliver hands on a datagram of the service.
func (f *Flow) deliver(p []byte) {
	f.moved.Store(time.Now().UnixNano())
	f.received.Inc()
	f.in.Add(int64(len(p)))
	f.o.Deliver(p)
}

// Run serves the flow until it ends and returns why: nil when the other end finished or
// nothing moved for Idle, ctx's cause, *attempt.Error when there is no way to the service,
// and else the failure of its leg, whose reason is [Reason]'s.
func (f *Flow) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f.watch(cancel)
	defer f.timer.Stop()
	err := f.run(ctx)
	f.mu.Lock()
	f.leg, f.final, f.start = nil, true, nil
	f.mu.Unlock()
	if errors.Is(context.Cause(ctx), ErrIdle) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// watch cancels the flow when nothing has moved for long enough.
func (f *Flow) watch(cancel context.CancelCauseFunc) {
	ready := make(chan struct{})
	f.timer = time.AfterFunc(f.o.Idle, func() {
		<-ready
		quiet, idle := time.Duration(time.Now().UnixNano()-f.moved.Load()), time.Duration(f.idle.Load())
		if quiet >= idle {
			cancel(ErrIdle)
			return
		}
		f.timer.Reset(idle - quiet)
	})
	close(ready)
}

// hurry ends the flow as soon as it is quiet: who serves it is leaving.
func (f *Flow) hurry() {
	f.idle.Store(int64(min(f.o.Idle, QuietTime)))
	f.timer.Reset(0)
}

// run makes attempts until one has served the flow.
func (f *Flow) run(ctx context.Context) error {
	for {
		a, err := f.o.Sequence.NextIn(ctx)
		if err != nil {
			return err
		}
		if a.Choice.Port.Protocol != catalog.UDP {
			a.End()
			return WrongProtocol(a)
		}
		answered, err := f.try(ctx, a)
		f.mu.Lock()
		f.leg = nil
		final := f.final
		f.mu.Unlock()
		switch {
		case answered || ctx.Err() != nil:
			a.Moved(f.out.Load(), f.in.Load(), false)
			a.End()
			return err
		case final:
			_ = a.Fail(ctx, err, attempt.Never) // so that it is known of the endpoint
			return err
		}
		if err := a.Fail(ctx, err, attempt.IfUndelivered); err != nil {
			return err
		}
	}
}

// WrongProtocol is the error of a call whose port speaks another transport than its caller.
func WrongProtocol(a *attempt.Attempt) *attempt.Error {
	return &attempt.Error{Reason: route.UnknownPort.String(), Service: a.Choice.Target.Service, Undelivered: true}
}

// try serves the flow by one attempt. answered says that somebody took it.
func (f *Flow) try(ctx context.Context, a *attempt.Attempt) (answered bool, err error) {
	if a.Choice.Endpoint != nil {
		return f.tryNear(ctx, a)
	}
	return f.tryFar(ctx, a)
}

func (f *Flow) tryFar(ctx context.Context, a *attempt.Attempt) (answered bool, err error) {
	// Who sends waits meanwhile: what comes behind what is kept must not overtake it.
	f.mu.Lock()
	flow, err := f.carrier.Links.OpenFlow(ctx, string(a.Choice.Target.Cluster), a.Header(f.o.TraceParent, time.Time{}), f.start, f.deliver)
	l := &farLeg{flow}
	if err == nil {
		f.leg = l
	}
	f.mu.Unlock()
	if err != nil {
		return false, err
	}
	stop := context.AfterFunc(ctx, func() { l.end(statusOf(ctx)) })
	defer stop()
	bounded, cancel := context.WithTimeout(ctx, statusTimeout)
	reply, err := flow.Status(bounded)
	cancel()
	if err == nil && reply.Status != wire.OK {
		r := flow.Remote()
		err = &tunnel.RefusedError{Cluster: r.Cluster, Gateway: r.Gateway, Status: reply.Status, Message: reply.Message, RetryAfter: reply.RetryAfter}
	}
	if err != nil {
		flow.Reset(wire.Canceled)
		return false, err
	}
	a.Answered(true)
	if err := f.open(a, Served{Cluster: a.Choice.Target.Cluster, Gateway: flow.Remote().Gateway}); err != nil {
		flow.Reset(wire.Canceled)
		return true, err
	}
	defer flow.Leaving(f.hurry)()
	err = flow.Receive()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	_ = flow.Close()
	return true, err
}

// open says that the flow has its place.
func (f *Flow) open(a *attempt.Attempt, served Served) error {
	f.settle()
	return f.tell(a, served)
}

// settle ends the time of choices.
func (f *Flow) settle() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.final, f.start, f.size = true, nil, 0
}

// tell calls Opened, once.
func (f *Flow) tell(a *attempt.Attempt, served Served) error {
	if f.opened || f.o.Opened == nil {
		return nil
	}
	f.opened = true
	return f.o.Opened(a, served)
}

// receiveBuffers hold any datagram.
var receiveBuffers = sync.Pool{New: func() any { return new([wire.MaxDatagram]byte) }}

func (f *Flow) tryNear(ctx context.Context, a *attempt.Attempt) (answered bool, err error) {
	e := a.Choice.Endpoint
	conn, err := f.carrier.Endpoints.ConnectUDP(ctx, e)
	if err != nil {
		return false, err
	}
	l := &nearLeg{conn: conn, metrics: f.carrier.Metrics, way: f.o.Way, failed: make(chan error, 1)}
	defer l.end(wire.OK)
	stop := context.AfterFunc(ctx, func() { l.end(wire.OK) })
	defer stop()
	served := Served{Cluster: a.Choice.Target.Cluster, Endpoint: e.ID}
	if f.o.Early {
		if err := f.tell(a, served); err != nil {
			return true, err
		}
	}
	_ = conn.SetReadDeadline(time.Now().Add(keepTime))
	f.mu.Lock()
	for _, p := range f.start {
		l.send(p)
	}
	f.leg = l
	f.mu.Unlock()
	return f.receiveNear(ctx, a, l, served)
}

// receiveNear hands on what an own endpoint sends.
func (f *Flow) receiveNear(ctx context.Context, a *attempt.Attempt, l *nearLeg, served Served) (answered bool, err error) {
	buf := receiveBuffers.Get().(*[wire.MaxDatagram]byte)
	defer receiveBuffers.Put(buf)
	for {
		// After every change of the deadline, which may have hidden the one of a failure.
		select {
		case err := <-l.failed:
			return answered, &retry.ConnectError{Endpoint: served.Endpoint, Err: err}
		default:
		}
		n, err := l.conn.Read(buf[:])
		if err == nil {
			if !answered {
				answered = true
				a.Answered(true)
				_ = l.conn.SetReadDeadline(time.Time{})
				if err := f.open(a, served); err != nil {
					return true, err
				}
			}
			f.deliver(buf[:n])
			continue
		}
		switch {
		case ctx.Err() != nil:
			return answered, context.Cause(ctx)
		case errors.Is(err, os.ErrDeadlineExceeded):
			// Nobody has answered: it is one-way, unless a failure has set the deadline.
			if len(l.failed) == 0 {
				f.settle()
			}
			_ = l.conn.SetReadDeadline(time.Time{})
		case unreachable(err):
			return answered, &retry.ConnectError{Endpoint: served.Endpoint, Err: err}
		default:
			return answered, err
		}
	}
}

// statusOf is what the other end is told of ctx's end.
func statusOf(ctx context.Context) wire.Status {
	switch {
	case errors.Is(context.Cause(ctx), ErrIdle):
		return wire.Idle
	case attempt.Withdrawn(ctx) != nil:
		return wire.Denied
	default:
		return wire.Draining
	}
}

// Reason is the word for why a flow ended.
func Reason(ctx context.Context, err error) string {
	if failed, ok := errors.AsType[*attempt.Error](err); ok {
		return failed.Reason
	}
	if withdrawn := attempt.Withdrawn(ctx); withdrawn != nil {
		return withdrawn.Reason
	}
	switch {
	case err == nil:
		return ""
	case ctx.Err() != nil:
		return wire.Draining.String()
	case errors.Is(err, net.ErrClosed):
		return wire.Canceled.String()
	}
	return retry.Classify(context.WithoutCancel(ctx), err).Status.String()
}
