package httpway

import (
	"context"
	"net/http"

	"github.com/isthmus-mesh/isthmus/gateway/retry"
)

// traceParent is the request's W3C traceparent if it looks like one: 55 bytes of
// version 00. Anything else is left to travel as a field.
func traceParent(r *http.Request) string {
	values := r.Header["Traceparent"]
	if len(values) != 1 || len(values[0]) != 55 {
		return ""
	}
	for i, c := range []byte(values[0]) {
		dash := i == 2 || i == 35 || i == 52
		if hex := (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); dash != (c == '-') || (!dash && !hex) {
			return ""
		}
	}
	return values[0]
}

// retryEnded is the reason of a request whose caller went away.
func retryEnded(ctx context.Context) (string, bool) {
	status, ended := retry.Ended(ctx)
	return status.String(), ended
}
