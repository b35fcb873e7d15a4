package httpway

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"

	"github.com/isthmus-mesh/isthmus/gateway/account"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/authority"
	"github.com/isthmus-mesh/isthmus/gateway/endpoint"
	"github.com/isthmus-mesh/isthmus/gateway/relay"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/isthmus-mesh/isthmus/gateway/workload"
)

// ServeHTTP serves one request.
func (w *Way) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.requests.Add(1)
	defer w.requests.Done()
	if w.draining.Load() {
		// On HTTP/2 this becomes GOAWAY.
		rw.Header().Set("Connection", "close")
	}
	e := w.o.Account.Begin(w.kind)
	caller, assurance, _ := w.caller(r.Context())
	e.Listener, e.Caller = w.address, caller
	out := &recorder{ResponseWriter: rw}
	w.identify(rw.Header(), r, e)
	// Deferred, since a broken answer ends the handler by a panic of net/http's.
	defer func() {
		if e.Status == 0 {
			e.Status = out.status
		}
		e.End()
	}()

	if !w.o.Requests.TryAcquire() {
		w.refuse(out, r, e, relay.Problem{Status: http.StatusServiceUnavailable, Reason: wire.Overloaded.String()})
		return
	}
	defer w.o.Requests.Release()
	if r.Method == http.MethodConnect || r.Method == http.MethodTrace {
		// CONNECT names an address, TRACE shows what gateways add.
		w.refuse(out, r, e, relay.Problem{Status: http.StatusMethodNotAllowed, Reason: reasonMethod, Detail: "method " + r.Method})
		return
	}
	name, err := authority.Parse(r.Host)
	if err != nil {
		p := relay.Problem{Status: http.StatusNotFound, Reason: reasonAuthority, Detail: err.Error()}
		if errors.Is(err, authority.ErrReserved) {
			p.Status, p.Reason = http.StatusForbidden, reasonReserved
		}
		w.refuse(out, r, e, p)
		return
	}
	e.Service, e.Port = name.Service, name.Port
	relay.Strip(r.Header)
	ctx, cancel := withTimeout(r)
	defer cancel()
	call := attempt.Call{
		Service: name.Service, Port: name.Port, Pin: name.Cluster, Caller: caller, Assurance: assurance, Bytes: relay.Size(r), HTTP: relay.Judged(r),
		Source: hostOf(r.RemoteAddr),
	}
	if relay.IsUpgrade(r) {
		w.upgrade(ctx, out, r, e, call)
		return
	}
	w.serve(ctx, out, r, e, call)
}

// hostOf is an address without its port.
func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	return host
}

// serve carries a request that stays HTTP.
func (w *Way) serve(ctx context.Context, out *recorder, r *http.Request, e *account.Entry, call attempt.Call) {
	sequence, err := w.o.Router.Start(call)
	if err != nil {
		w.fail(out, r, e, err)
		return
	}
	e.Sequence = sequence
	ctx, release := sequence.Guard(ctx)
	defer release()
	x := &exchange{way: w, out: out, sequence: sequence, entry: e, trace: tracedOn(e)}
	x.sent, x.received = e.Counters()
	defer func() {
		if x.failed != nil {
			e.Reason, e.Err = breakOf(ctx, x.failed), x.failed
		} else if status, ended := retryEnded(r.Context()); ended && e.Reason == "" {
			e.Reason = status
		}
		if workload.Revoked(r.Context()) != nil {
			e.Reason = wire.Revoked.String()
		}
	}()
	w.proxy.ServeHTTP(out, r.WithContext(context.WithValue(ctx, exchangeKey{}, x)))
}

// rewrite adds what a gateway says of where a request comes from.
func (w *Way) rewrite(p *httputil.ProxyRequest) {
	if host, _, err := net.SplitHostPort(p.In.RemoteAddr); err == nil {
		p.Out.Header.Set("X-Forwarded-For", host)
	}
	_, _, scheme := w.caller(p.In.Context())
	p.Out.Header.Set("X-Forwarded-Proto", scheme)
	p.Out.Header.Set("X-Forwarded-Host", p.In.Host)
}

// answerFailure is called by the proxy where RoundTrip failed.
func (w *Way) answerFailure(rw http.ResponseWriter, r *http.Request, err error) {
	x, ok := r.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		rw.WriteHeader(http.StatusInternalServerError)
		return
	}
	if v := x.body.violation(); v != nil {
		// To everything else it looks as if the caller had gone away.
		x.entry.Err = v
		w.refuse(x.out, r, x.entry, relay.Problem{Status: http.StatusBadRequest, Reason: reasonMalformed, Service: x.entry.Service.String(), Detail: v.Error()})
		return
	}
	w.fail(x.out, r, x.entry, err)
}

// fail answers a call that got no answer of its service.
func (w *Way) fail(out *recorder, r *http.Request, e *account.Entry, err error) {
	failed, ok := errors.AsType[*attempt.Error](err)
	if withdrawn := attempt.Withdrawn(r.Context()); withdrawn != nil {
		failed, ok = withdrawn, true
	}
	if !ok {
		failed = &attempt.Error{Reason: wire.Internal.String(), Service: e.Service, Status: wire.Internal, Attempts: 1, Err: err}
	}
	e.Err = failed
	if failed.Attempts > 0 {
		e.Cluster, e.Attempts = failed.Cluster, failed.Attempts
	}
	w.refuse(out, r, e, relay.ProblemOf(failed))
}

// refuse gives the gateway's own answer.
func (w *Way) refuse(out *recorder, r *http.Request, e *account.Entry, p relay.Problem) {
	e.Reason, e.Status = p.Reason, p.Status
	relay.WriteProblem(out, r, p)
}

// withTimeout gives the request the deadline that its gRPC caller set.
func withTimeout(r *http.Request) (context.Context, context.CancelFunc) {
	if endpoint.IsGRPC(r) {
		if d, ok := relay.Timeout(r); ok {
			return context.WithTimeout(r.Context(), d)
		}
	}
	return context.WithCancel(r.Context())
}

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
