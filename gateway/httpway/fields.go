package httpway

import (
	"context"
	"net/http"

	"github.com/isthmus-mesh/isthmus/gateway/account"
	"github.com/isthmus-mesh/isthmus/gateway/relay"
	"github.com/isthmus-mesh/isthmus/gateway/retry"
)

// identify enters the IDs of a request. It has an x-request-id from here on: the
// caller's, if that is one, else a new one; the service is told it, and so is the
// caller by the answer.
func (w *Way) identify(out http.Header, r *http.Request, e *account.Entry) {
	e.RequestID = relay.SetRequestID(r.Header)
	out[relay.FieldRequestID] = []string{e.RequestID}
	e.Sampled = w.o.Sample != nil && w.o.Sample()
	if trace, ok := relay.TraceOf(r.Header); ok {
		e.Trace = trace
	} else if e.Sampled {
		e.Trace = relay.NewTrace(true)
	}
}

// tracedOn is what the far gateway is told of the trace, so that it keeps what is
// kept here; "" for nothing. The caller's own field travels beside it.
func tracedOn(e *account.Entry) string {
	if e.Trace.TraceID == "" {
		return ""
	}
	trace := e.Trace
	trace.Sampled = trace.Sampled || e.Sampled
	return trace.String()
}

// retryEnded is the reason of a request whose caller went away.
func retryEnded(ctx context.Context) (string, bool) {
	status, ended := retry.Ended(ctx)
	return status.String(), ended
}
