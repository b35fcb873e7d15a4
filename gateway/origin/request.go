package origin

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/account"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/endpoint"
	"github.com/isthmus-mesh/isthmus/gateway/relay"
	"github.com/isthmus-mesh/isthmus/gateway/retry"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// ServeHTTP implements tunnel.Handler: it serves one request of a peer's gateway.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	remote, ok := tunnel.RemoteFrom(r.Context())
	header, ok2 := tunnel.HeaderFrom(r.Context())
	if !ok || !ok2 {
		tunnel.Refuse(w, wire.Reply{Status: wire.Internal})
		return
	}
	h.serve(w, r, &facts{peer: catalog.ClusterName(remote.Cluster), gateway: remote.Gateway, header: *header})
}

// exchange is one request on its way.
type exchange struct {
	handler  *Handler
	facts    *facts
	sequence *attempt.Sequence
	entry    *account.Entry
	sent     *account.Bytes
	received *account.Bytes
	failed   error // why the answer broke after it began
	current  atomic.Pointer[attempt.Attempt]
}

type exchangeKey struct{}

// reasonMethod is that of the http way.
const reasonMethod = "method_not_allowed"

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, f *facts) {
	if f.stream != nil {
		relay.Strip(r.Header)
		if d, ok := relay.Timeout(r); ok && endpoint.IsGRPC(r) {
			f.header.Deadline = max(1, d) // else the near gateway says it
		}
	} else {
		relay.StripRelayed(r.Header) // the far gateway has done it, if it is what it was
	}
	e, sequence, err := h.start(account.WayRequest, f, relay.Judged(r))
	x := &exchange{handler: h, facts: f, sequence: sequence, entry: e}
	e.Sequence = sequence
	identify(e, f, r)
	x.sent, x.received = e.Counters()
	ctx, cancel := withDeadline(r.Context(), &f.header)
	defer cancel()
	if err == nil {
		var leave func()
		if leave, err = h.place(ctx, f, e); err == nil {
			defer leave()
		}
	}
	if err == nil {
		var release func()
		ctx, release = sequence.Guard(ctx)
		defer release()
	}
	// Deferred, since a broken answer ends the handler by a panic of net/http's.
	defer func() {
		if x.failed != nil {
			if !callersEnd(ctx, r) {
				f.breakOff()
			}
			e.Reason, e.Err = retry.Classify(ctx, x.failed).Status.String(), x.failed
			if withdrawn := attempt.Withdrawn(ctx); withdrawn != nil {
				e.Reason = withdrawn.Reason
			}
		} else if status, ended := retry.Ended(r.Context()); ended && e.Reason == "" {
			e.Reason = status.String()
		}
		e.End()
	}()
	if err != nil {
		h.refuseRequest(w, r, x, err)
		return
	}
	if r.Method == http.MethodConnect || r.Method == http.MethodTrace {
		// CONNECT names an address, TRACE shows what gateways add.
		e.Reason, e.Status = reasonMethod, http.StatusMethodNotAllowed
		relay.WriteProblem(w, r, relay.Problem{Status: e.Status, Reason: e.Reason, Detail: "method " + r.Method})
		return
	}
	if f.stream != nil && relay.IsUpgrade(r) {
		h.upgrade(ctx, w, r, x)
		return
	}
	h.proxy.ServeHTTP(w, r.WithContext(context.WithValue(ctx, exchangeKey{}, x)))
}

// identify enters the IDs of a request, as the near gateway has checked or made
// them. In a plain stream nobody has: there they are the caller's own.
func identify(e *account.Entry, f *facts, r *http.Request) {
	if f.stream == nil {
		e.RequestID = relay.RequestID(r.Header)
		return
	}
	e.RequestID = relay.SetRequestID(r.Header)
	if trace, ok := relay.TraceOf(r.Header); ok {
		trace.Sampled = trace.Sampled || e.Trace.Sampled
		e.Trace = trace
	}
}

// rewrite keeps what the near gateway says of where a request comes from; a plain
// stream has said nothing that counts.
func rewrite(p *httputil.ProxyRequest) {
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"} {
		if values := p.In.Header[name]; len(values) > 0 {
			p.Out.Header[name] = values
		}
	}
}

// RoundTrip makes the attempts of a request: a second one only if no connection
// could be made, so that nothing of the request has been used.
func (h *Handler) RoundTrip(r *http.Request) (*http.Response, error) {
	x, ok := r.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		return nil, errors.New("origin: request without an exchange")
	}
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &countedBody{ReadCloser: r.Body, counter: x.sent, taken: x.uploaded}
	}
	relay.SetCaller(r.Header, h.o.Identity(), x.facts.header.Caller)
	for {
		a, ctx, done, err := x.next(r.Context())
		if err != nil {
			return nil, err
		}
		x.entry.Endpoint, x.entry.Attempts = a.Choice.Endpoint.ID, max(1, x.sequence.Attempts())
		x.uploads(r, a)
		resp, err := h.o.Endpoints.RoundTrip(a.Choice.Endpoint, a.Choice.Port.Protocol, r.WithContext(ctx))
		done()
		if err == nil {
			return x.answered(r, a, resp), nil
		}
		replay := attempt.Never
		if _, ok := errors.AsType[*retry.ConnectError](err); ok {
			replay = attempt.IfUndelivered
		}
		if err = a.Fail(r.Context(), err, replay); err != nil {
			return nil, err
		}
	}
}

// next is the attempt that has its connection already, or another one.
func (x *exchange) next(ctx context.Context) (*attempt.Attempt, context.Context, func(), error) {
	if o := x.facts.takeFirst(); o != nil {
		x.sequence.Adopt(o.attempt)
		if err := o.attempt.Enter(ctx, x.sequence); err != nil {
			_ = o.conn.Close() // it was never used
			return nil, ctx, func() {}, err
		}
		spare := endpoint.NewSpare(o.attempt.Choice.Endpoint, o.conn)
		return o.attempt, endpoint.WithSpare(ctx, spare), spare.Close, nil
	}
	a, err := x.sequence.NextIn(ctx)
	if spare := x.facts.spare; spare != nil {
		x.facts.spare = nil
		if err == nil && a.Choice.Endpoint != nil {
			return a, endpoint.WithSpare(ctx, spare), spare.Close, nil
		}
		spare.Close()
	}
	return a, ctx, func() {}, err
}

func (f *facts) takeFirst() *opened {
	o := f.first
	f.first = nil
	return o
}

// answered hands an answer on, and ends the attempt with its body.
func (x *exchange) answered(r *http.Request, a *attempt.Attempt, resp *http.Response) *http.Response {
	wire.StripHTTP(resp.Header) // only gateways write these
	x.entry.Answered()
	x.entry.Status = resp.StatusCode
	x.sequence.SetCookie(resp.Header)
	if after, refused := relay.Refusal(resp); refused {
		a.Refused(after)
	}
	switch resp.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		a.Answered(false)
	default:
		a.Answered(true)
	}
	resp.Body = &answerBody{ReadCloser: resp.Body, exchange: x, attempt: a}
	if endpoint.IsGRPC(r) {
		relay.EndInTime(r.Context(), resp)
	}
	return resp
}

// answerBody counts an answer's bytes and ends its attempt.
type answerBody struct {
	io.ReadCloser
	exchange *exchange
	attempt  *attempt.Attempt
	once     sync.Once
}

// Read implements io.Reader.
func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.exchange.received.Add(float64(n))
	}
	if err != nil {
		if !errors.Is(err, io.EOF) {
			b.exchange.failed = err
		}
		b.once.Do(b.end)
	}
	return n, err
}

// Close implements io.Closer.
func (b *answerBody) Close() error {
	b.once.Do(b.end)
	return b.ReadCloser.Close()
}

func (b *answerBody) end() {
	b.attempt.Moved(b.exchange.entry.Sent.Load(), b.exchange.entry.Received.Load(), b.exchange.failed == nil)
	b.attempt.End()
}

// uploads tells an attempt of the request's body, and uploaded of its end.
func (x *exchange) uploads(r *http.Request, a *attempt.Attempt) {
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	a.Uploading()
	x.current.Store(a)
}

func (x *exchange) uploaded() {
	if a := x.current.Load(); a != nil {
		a.Uploaded()
	}
}

// countedBody counts a request's bytes. It outlives a failed connection, which
// closes what it never read.
type countedBody struct {
	io.ReadCloser
	counter *account.Bytes
	taken   func() // called at its end
}

// Read implements io.Reader.
func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.counter.Add(float64(n))
	}
	if err != nil {
		b.taken()
	}
	return n, err
}

// Close implements io.Closer. The server closes the body.
func (b *countedBody) Close() error { return nil }

// answerFailure is called by the proxy where RoundTrip failed.
func (h *Handler) answerFailure(w http.ResponseWriter, r *http.Request, err error) {
	x, ok := r.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	if withdrawn := attempt.Withdrawn(r.Context()); withdrawn != nil {
		err = withdrawn
	}
	x.entry.Reason, x.entry.Err = reasonOf(err), err
	h.refuseRequest(w, r, x, err)
}

// callersEnd reports whether a request failed because its caller canceled it or gave
// it no more time, on a connection that carries other requests: they are not to be
// broken off with it.
func callersEnd(ctx context.Context, r *http.Request) bool {
	_, ended := retry.Ended(ctx)
	return ended && r.ProtoMajor >= 2 && attempt.Withdrawn(ctx) == nil
}

// refuseRequest gives a request the typed refusal. In a plain stream there is no
// place for it any more: the stream is broken off, so that the caller comes anew
// and is routed anew. What coming anew would not help is said in HTTP.
func (h *Handler) refuseRequest(w http.ResponseWriter, r *http.Request, x *exchange, err error) {
	failed, ok := errors.AsType[*attempt.Error](err)
	switch {
	case ok && failed.Reason == route.ReasonAmbiguousPath:
		x.entry.Status = http.StatusBadRequest
		relay.WriteProblem(w, r, relay.Problem{
			Status: http.StatusBadRequest, Reason: failed.Reason, Service: failed.Service.String(), Detail: "the path " + relay.Judged(r).Ambiguous(),
		})
		return
	case ok && failed.Status == wire.DeadlineExceeded && x.facts.stream != nil && endpoint.IsGRPC(r):
		x.entry.Status = http.StatusGatewayTimeout
		relay.WriteProblem(w, r, relay.Problem{Status: http.StatusGatewayTimeout, Reason: failed.Reason, Service: failed.Service.String()})
		return
	case ok && failed.Limit != attempt.NoLimit && x.facts.stream != nil:
		// Coming anew would meet the same limit, at once.
		p := relay.LimitProblem(failed)
		x.entry.Status = p.Status
		relay.WriteProblem(w, r, p)
		return
	case ok && failed.Denied && x.facts.stream != nil:
		// The reason is for this cluster's operators, as in a typed refusal.
		x.entry.Status = http.StatusForbidden
		relay.WriteProblem(w, r, relay.Problem{Status: http.StatusForbidden, Reason: wire.Denied.String(), Service: failed.Service.String()})
		return
	}
	if x.facts.stream != nil {
		if !callersEnd(r.Context(), r) {
			x.facts.breakOff()
		}
		panic(http.ErrAbortHandler)
	}
	tunnel.Refuse(w, replyOf(err))
}
