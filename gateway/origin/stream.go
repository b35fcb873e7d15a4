package origin

import (
	"context"
	"errors"
	"net"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/account"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/datagram"
	"github.com/isthmus-mesh/isthmus/gateway/splice"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// ServeStream implements tunnel.Handler.
func (h *Handler) ServeStream(ctx context.Context, in *tunnel.Inbound) {
	f := &facts{peer: catalog.ClusterName(in.Remote.Cluster), gateway: in.Remote.Gateway, header: in.Header}
	way := account.WayStream
	if in.Header.Flow {
		way = account.WayFlow
	}
	e, sequence, err := h.start(way, f, nil)
	defer e.End()
	if err != nil {
		h.refuse(in, replyOf(err))
		return
	}
	if e.Service.IsFederation() {
		if in.Header.Flow {
			e.Reason = route.UnknownPort.String()
			h.refuse(in, wire.Reply{Status: wire.UnknownPort})
			return
		}
		h.serveFederation(ctx, in, e)
		return
	}
	leave, err := h.place(ctx, f, e)
	if err != nil {
		h.refuse(in, replyOf(err))
		return
	}
	defer leave()
	ctx, release := sequence.Guard(ctx)
	defer release()
	if in.Header.Flow {
		h.serveFlow(ctx, in, e, sequence)
		return
	}
	bounded, cancel := withDeadline(ctx, &in.Header)
	defer cancel()
	o, err := h.connect(bounded, sequence)
	e.Attempts = sequence.Attempts()
	if err != nil {
		e.Sequence = sequence
		e.Reason, e.Err = reasonOf(err), err
		h.refuse(in, replyOf(err))
		return
	}
	e.Endpoint = o.attempt.Choice.Endpoint.ID
	switch o.attempt.Choice.Port.Protocol {
	case catalog.HTTP, catalog.GRPC:
		// Its requests are entered one by one.
		h.serveHTTPStream(ctx, in, f, o)
		return
	case catalog.TCP, catalog.TLS, catalog.UDP:
	}
	e.Sequence = sequence
	if err := in.Accept(); err != nil {
		e.Reason, e.Err = wire.Canceled.String(), err
		o.close()
		return
	}
	e.Answered()
	o.attempt.Answered(true)
	h.splice(ctx, in, o.conn, e)
	o.attempt.End()
}

// opened is an attempt that has its connection.
type opened struct {
	attempt *attempt.Attempt
	conn    net.Conn
}

// close gives up an attempt that nothing was sent on.
func (o *opened) close() {
	_ = o.conn.Close() // it was never used
	o.attempt.End()
}

// connect makes the attempts of a call until one has a connection.
func (h *Handler) connect(ctx context.Context, sequence *attempt.Sequence) (*opened, error) {
	for {
		a, err := sequence.NextIn(ctx)
		if err != nil {
			return nil, err
		}
		if a.Choice.Port.Protocol == catalog.UDP {
			a.End()
			return nil, datagram.WrongProtocol(a)
		}
		c, err := h.o.Endpoints.Connect(ctx, a.Choice.Endpoint)
		if err == nil {
			return &opened{attempt: a, conn: c}, nil
		}
		if err = a.Fail(ctx, err, attempt.IfUndelivered); err != nil {
			return nil, err
		}
	}
}

// splice carries a stream until it ends, by itself or with its link.
func (h *Handler) splice(ctx context.Context, in *tunnel.Inbound, c net.Conn, e *account.Entry) {
	sent, received := e.Counters()
	result := h.o.Splicer.Run(ctx, in, splice.TCP(c), splice.Counters{AB: sent, BA: received}, h.gone(ctx))
	enter(e, result)
}

// enter writes how a splice ended into its entry.
func enter(e *account.Entry, result splice.Result) {
	if result.Status == wire.OK {
		return
	}
	e.Reason, e.Err = result.Status.String(), result.Err
	if result.FromA {
		e.Reason = wire.Canceled.String() // the near end
	} else if withdrawn, ok := errors.AsType[*attempt.Error](result.Err); ok {
		e.Reason = withdrawn.Reason
	}
}

// gone is why a stream's context ended.
func (h *Handler) gone(ctx context.Context) func() wire.Status {
	return func() wire.Status {
		switch {
		case attempt.Withdrawn(ctx) != nil:
			return wire.Denied
		case h.talking.Err() != nil:
			return wire.Draining
		default:
			return wire.LinkDead
		}
	}
}

// refuse answers a stream with no. That it cannot be told is no further matter:
// its link is gone.
func (h *Handler) refuse(in *tunnel.Inbound, r wire.Reply) { _ = in.RefuseWith(r) }

// serveFederation joins a peer's federation with the own one. The table lets every
// peer's gateway ask; who may be heard is for the federation to say, end to end.
func (h *Handler) serveFederation(ctx context.Context, in *tunnel.Inbound, e *account.Entry) {
	address := h.o.Federation()
	if address == "" {
		e.Reason = wire.NoEndpoint.String()
		h.refuse(in, wire.Reply{Status: wire.NoEndpoint})
		return
	}
	dial, cancel := context.WithTimeout(ctx, connectTimeout)
	c, err := h.o.Dial(dial, "tcp", address)
	cancel()
	if err != nil {
		e.Reason, e.Err = wire.Unreachable.String(), err
		h.refuse(in, wire.Reply{Status: wire.Unreachable})
		return
	}
	if err := in.Accept(); err != nil {
		e.Reason, e.Err = wire.Canceled.String(), err
		_ = c.Close() // nothing was sent on it
		return
	}
	e.Answered()
	h.talks.Add(1)
	defer h.talks.Add(-1)
	ctx, end := context.WithCancel(ctx)
	defer end()
	defer context.AfterFunc(h.talking, end)()
	h.splice(ctx, in, c, e)
}
