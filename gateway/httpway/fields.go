package httpway

import (
	"context"
	"net/http"
	"strconv"
	"time"

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

// grpcTimeout reads the field of gRPC's protocol: at most 8 digits and a unit.
func grpcTimeout(value string) (time.Duration, bool) {
	if len(value) < 2 || len(value) > 9 {
		return 0, false
	}
	units := map[byte]time.Duration{
		'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
	}
	unit, ok := units[value[len(value)-1]]
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(value[:len(value)-1], 10, 32)
	if err != nil || value[0] == '+' {
		return 0, false
	}
	if n > uint64(maxTimeout/unit) {
		return maxTimeout, true
	}
	return time.Duration(n) * unit, true
}

// maxTimeout bounds what a caller may set; beyond it is as good as none.
const maxTimeout = 24 * time.Hour

// retryEnded is the reason of a request whose caller went away.
func retryEnded(ctx context.Context) (string, bool) {
	status, ended := retry.Ended(ctx)
	return status.String(), ended
}
