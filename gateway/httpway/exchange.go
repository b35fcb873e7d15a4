package httpway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/gateway/account"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/endpoint"
	"github.com/isthmus-mesh/isthmus/gateway/relay"
	"github.com/isthmus-mesh/isthmus/gateway/retry"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// exchange is one request on its way: what its handler and its transport share.
type exchange struct {
	way      *Way
	out      *recorder
	sequence *attempt.Sequence
	entry    *account.Entry
	sent     *account.Bytes
	received *account.Bytes
	trace    string
	body     *body // nil when the request has none
	// current is the attempt that the body goes to.
	current atomic.Pointer[attempt.Attempt]
	// failed is why the answer broke after it began.
	failed error
}

type exchangeKey struct{}

// RoundTrip makes the attempts of a request. It is the transport of the way's
// proxy, so it gets each request once.
func (w *Way) RoundTrip(r *http.Request) (*http.Response, error) {
	x, ok := r.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		return nil, errors.New("http way: request without an exchange")
	}
	var b *body
	if r.Body != nil && r.Body != http.NoBody {
		b = newBody(io.TeeReader(r.Body, byteCount{x.sent}))
		b.taken = x.uploaded
	}
	x.body = b
	for {
		a, err := x.sequence.NextIn(r.Context())
		if err != nil {
			return nil, err
		}
		x.entry.Cluster, x.entry.Attempts = a.Choice.Target.Cluster, x.sequence.Attempts()
		x.entry.Serve(a.Choice.Target.Cluster, a.Choice.Price())
		if b != nil {
			a.Uploading()
			x.current.Store(a)
			if b.whole() {
				a.Uploaded() // all of it is kept
			}
		}
		resp, err := x.try(r, a, b)
		if err == nil {
			b.release()
			return x.answered(r, a, resp), nil
		}
		if err = a.Fail(r.Context(), err, replayOf(r, b)); err != nil {
			return nil, err
		}
	}
}

// try makes one attempt.
func (x *exchange) try(r *http.Request, a *attempt.Attempt, b *body) (*http.Response, error) {
	out := r.WithContext(r.Context())
	if b != nil {
		out.Body = b.attempt()
		out.GetBody = func() (io.ReadCloser, error) { // net/http's, for a stale idle connection
			if !b.replayable() {
				return nil, errSuperseded
			}
			return b.attempt(), nil
		}
	}
	if e := a.Choice.Endpoint; e != nil {
		x.entry.Gateway, x.entry.Endpoint = "", e.ID
		out.Header = r.Header.Clone()
		relay.SetCaller(out.Header, x.way.identity(), x.entry.Caller)
		resp, err := x.way.o.Endpoints.RoundTrip(e, a.Choice.Port.Protocol, out)
		if err == nil {
			wire.StripHTTP(resp.Header) // only gateways write these
		}
		return resp, err
	}
	x.entry.Gateway, x.entry.Endpoint = "", ""
	deadline, _ := r.Context().Deadline()
	resp, err := x.way.o.Links.RoundTrip(string(a.Choice.Target.Cluster), a.Header(x.trace, deadline), out)
	if err == nil {
		if by, ok := tunnel.RemoteOf(resp); ok {
			x.entry.Gateway = by.Gateway
			a.By(by.Gateway)
		}
	}
	return resp, err
}

// replayOf says what of a request can be sent again. gRPC tells nobody which of
// its methods are idempotent.
func replayOf(r *http.Request, b *body) attempt.Replay {
	if !b.replayable() {
		return attempt.Never
	}
	if endpoint.IsGRPC(r) {
		return attempt.IfUndelivered
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return attempt.Always
	default:
		return attempt.IfUndelivered
	}
}

// answered hands an answer on, and ends the attempt with its body.
func (x *exchange) answered(r *http.Request, a *attempt.Attempt, resp *http.Response) *http.Response {
	x.entry.Answered()
	if len(resp.Header[relay.FieldRequestID]) > 0 {
		delete(x.out.Header(), relay.FieldRequestID) // the service says it itself
	}
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
		b.end()
	}
	return n, err
}

// Close implements io.Closer.
func (b *answerBody) Close() error {
	b.end()
	return b.ReadCloser.Close()
}

func (b *answerBody) end() {
	b.once.Do(func() {
		b.attempt.Moved(b.exchange.entry.Sent.Load(), b.exchange.entry.Received.Load(), b.exchange.failed == nil)
		b.attempt.End()
	})
}

// uploaded is called when the last byte of the request was taken.
func (x *exchange) uploaded() {
	if a := x.current.Load(); a != nil {
		a.Uploaded()
	}
}

// byteCount is a counter as the side of a TeeReader.
type byteCount struct{ counter *account.Bytes }

// Write implements io.Writer.
func (c byteCount) Write(p []byte) (int, error) {
	c.counter.Add(float64(len(p)))
	return len(p), nil
}

// breakOf is the reason of an answer that broke after it began.
func breakOf(ctx context.Context, err error) string {
	if withdrawn := attempt.Withdrawn(ctx); withdrawn != nil {
		return withdrawn.Reason
	}
	return retry.Classify(ctx, err).Status.String()
}
