package origin

import (
	"context"
	"errors"
	"sync"

	"github.com/isthmus-mesh/isthmus/gateway/account"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/datagram"
	"github.com/isthmus-mesh/isthmus/gateway/retry"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// serveFlow serves a flow of datagrams from an own endpoint, until the endpoint is gone, the
// near end has finished, or the flow is no longer allowed.
func (h *Handler) serveFlow(ctx context.Context, in *tunnel.Inbound, e *account.Entry, sequence *attempt.Sequence) {
	e.Sequence = sequence
	sent, received := e.Counters()
	var (
		mu       sync.Mutex // of the entry
		ended    bool
		accepted bool
		near     *tunnel.InboundFlow
	)
	far := h.o.Flows.New(datagram.Options{
		Sequence: sequence, Way: e.Way, Idle: datagram.FarIdleTimeout, Early: true,
		Opened: func(_ *attempt.Attempt, served datagram.Served) error {
			e.Endpoint, accepted = served.Endpoint, true
			return in.Accept()
		},
		Deliver: func(p []byte) {
			if near.Send(p) != nil {
				return // its end is seen by who receives
			}
			mu.Lock()
			defer mu.Unlock()
			if !e.IsAnswered() {
				e.Answered()
			}
			received.Add(float64(len(p)))
		},
	})
	near = in.Flow(func(p []byte) {
		mu.Lock()
		if !ended {
			sent.Add(float64(len(p)))
		}
		mu.Unlock()
		far.Send(p)
	})
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	var reader sync.WaitGroup
	reader.Go(func() { end(near.Receive()) })
	err := far.Run(ctx)
	e.Attempts = sequence.Attempts()
	if err != nil {
		e.Reason, e.Err = h.flowReason(ctx, err), err
	}
	switch {
	case !accepted:
		h.refuse(in, replyOf(err))
		in.CloseRead(wire.Canceled)
	case err == nil:
		_ = in.Close() // the near end has finished
	default:
		in.Reset(h.flowStatus(ctx, err))
	}
	reader.Wait()
	mu.Lock()
	ended = true
	mu.Unlock()
}

// flowStatus is what the near end is told of a flow that ended by err.
func (h *Handler) flowStatus(ctx context.Context, err error) wire.Status {
	if ctx.Err() != nil {
		return h.gone(ctx)()
	}
	if failed, ok := errors.AsType[*attempt.Error](err); ok {
		return ReplyTo(failed).Status // its endpoint said no and there is no other
	}
	return retry.Classify(ctx, err).Status
}

// flowReason is the word for it here.
func (h *Handler) flowReason(ctx context.Context, err error) string {
	if reset, ok := errors.AsType[*tunnel.ResetError](err); ok && reset.Remote {
		return wire.Canceled.String() // the near end
	}
	if failed, ok := errors.AsType[*attempt.Error](err); ok {
		return failed.Reason
	}
	return h.flowStatus(ctx, err).String()
}
