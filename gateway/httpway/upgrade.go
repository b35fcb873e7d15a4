package httpway

import (
	"context"
	"errors"
	"net"
	"net/http"

	"github.com/isthmus-mesh/isthmus/gateway/account"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/outbound"
	"github.com/isthmus-mesh/isthmus/gateway/relay"
	"github.com/isthmus-mesh/isthmus/gateway/splice"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// upgrade carries a request that wants another protocol on its connection. It is
// opened like a connection of the TCP way, with the request as its first bytes;
// the caller's connection is only given over once the service has switched.
func (w *Way) upgrade(ctx context.Context, out *recorder, r *http.Request, e *account.Entry, call attempt.Call) {
	request, err := relay.UpgradeRequest(r, func(h http.Header) {
		if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
			h.Set("X-Forwarded-For", host)
		}
		_, _, scheme := w.caller(r.Context())
		h.Set("X-Forwarded-Proto", scheme)
		h.Set("X-Forwarded-Host", r.Host)
		// For an endpoint of the own cluster; a far gateway writes its own.
		relay.SetCaller(h, w.identity(), e.Caller)
	})
	if err != nil {
		w.fail(out, r, e, err)
		return
	}
	backend, err := w.o.Dialer.Dial(ctx, outbound.Request{
		Call: call, First: request, Own: true, TraceParent: tracedOn(e), Started: func(s *attempt.Sequence) { e.Sequence = s },
	})
	if err != nil {
		w.fail(out, r, e, err)
		return
	}
	defer func() { _ = backend.Close() }()
	answer, err := relay.ReadAnswer(backend, r)
	served := backend.Served()
	e.Cluster, e.Gateway, e.Endpoint, e.Attempts = served.Cluster, served.Gateway, served.Endpoint, backend.Attempts()
	e.Serve(served.Cluster, served.Price)
	if err != nil {
		w.failUpgrade(out, r, e, err)
		return
	}
	e.Answered()
	sent, received := e.Counters()
	switched, err := answer.Switched(r)
	if err != nil {
		w.failUpgrade(out, r, e, err)
		return
	}
	if !switched {
		n, err := answer.Decline(out)
		received.Add(float64(n))
		if err != nil {
			e.Reason, e.Err = breakOf(ctx, err), err
			panic(http.ErrAbortHandler) // the answer has begun: break it off
		}
		return
	}
	e.Status = http.StatusSwitchingProtocols
	ctx, release := backend.Guard(w.serving)
	defer release()
	result, err := answer.Switch(ctx, out, w.o.Splicer, splice.Counters{AB: sent, BA: received}, ending(ctx))
	switch {
	case err != nil:
		e.Reason, e.Err = wire.Canceled.String(), err
	case result.Status != wire.OK && result.FromA:
		e.Reason, e.Err = wire.Canceled.String(), result.Err
	case result.Status != wire.OK:
		e.Reason, e.Err = result.Status.String(), result.Err
		if withdrawn := attempt.Withdrawn(ctx); withdrawn != nil {
			e.Reason = withdrawn.Reason
		}
	}
}

// ending is why a connection's context ended.
func ending(ctx context.Context) func() wire.Status {
	return func() wire.Status {
		if attempt.Withdrawn(ctx) != nil {
			return wire.Denied
		}
		return wire.Draining
	}
}

// failUpgrade answers an upgrade whose service did not answer in order.
func (w *Way) failUpgrade(out *recorder, r *http.Request, e *account.Entry, err error) {
	if _, ok := errors.AsType[*attempt.Error](err); !ok {
		err = &attempt.Error{
			Reason: breakOf(r.Context(), err), Service: e.Service, Status: wire.Reset,
			Cluster: e.Cluster, Attempts: max(1, e.Attempts), Err: err,
		}
	}
	w.fail(out, r, e, err)
}
