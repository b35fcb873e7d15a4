package relay

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// ReasonField carries the typed reason of an answer that the gateway itself gave.
const ReasonField = wire.FieldPrefix + "Reason"

// Problem is an answer of the gateway itself, in the form of RFC 9457.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	// Reason is of the closed vocabulary of the access log.
	Reason  string `json:"reason"`
	Service string `json:"service,omitempty"`
	Cluster string `json:"cluster,omitempty"`
	// RetryAfter is how long the caller is told to stay away, of a 429 or 503; 0 is
	// not known.
	RetryAfter time.Duration `json:"-"`
}

// defaultRetryAfter is what a caller is told to wait where waiting helps and nothing
// else is known.
const defaultRetryAfter = time.Second

// LimitProblem is the answer to a call that a limit refused: 429 where the caller has
// called too often, 503 where there is no room.
func LimitProblem(e *attempt.Error) Problem {
	p := Problem{
		Status: http.StatusServiceUnavailable, Reason: e.Reason, Detail: e.Rule,
		Service: e.Service.String(), Cluster: string(e.Cluster), RetryAfter: e.RetryAfter,
	}
	if e.Limit == attempt.RateLimit {
		p.Status = http.StatusTooManyRequests
	}
	return p
}

// limits reports whether waiting helps.
func (p *Problem) limits() bool {
	return p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable
}

// WriteProblem answers r. Type and Title are filled in. A gRPC caller gets the
// status of that protocol, in the header (a trailers-only answer).
func WriteProblem(w http.ResponseWriter, r *http.Request, p Problem) {
	p.Type = "urn:isthmus:reason:" + p.Reason
	p.Title = http.StatusText(p.Status)
	h := w.Header()
	h.Set(ReasonField, p.Reason)
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		h.Set("Content-Type", "application/grpc")
		h.Set("Grpc-Status", strconv.Itoa(grpcCode(p.Status)))
		h.Set("Grpc-Message", url.PathEscape(p.Reason+": "+p.Service+" "+p.Detail))
		if p.limits() && p.RetryAfter > 0 {
			// gRFC A6: a client that retries by itself waits so long, in whole milliseconds.
			h.Set("Grpc-Retry-Pushback-Ms", strconv.FormatInt(ceil(p.RetryAfter, time.Millisecond), 10))
		}
		w.WriteHeader(http.StatusOK)
		return
	}
	body, err := json.Marshal(p)
	if err != nil { // strings and a number always marshal
		w.WriteHeader(p.Status)
		return
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if p.limits() {
		if p.RetryAfter <= 0 {
			p.RetryAfter = defaultRetryAfter
		}
		h.Set("Retry-After", strconv.FormatInt(ceil(p.RetryAfter, time.Second), 10))
	}
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the caller is gone, or has it
	}
}

// ceil is d in whole units, rounded up: who comes a little early comes in vain.
func ceil(d, unit time.Duration) int64 { return int64((d + unit - 1) / unit) }

// grpcDeadlineExceeded is gRPC's status of a call whose deadline passed.
const grpcDeadlineExceeded = 4

// grpcCode follows gRPC's own mapping of HTTP statuses where it is as precise
// (doc/http-grpc-status-mapping.md), and is more precise for what only a proxy
// answers.
func grpcCode(status int) int {
	const (
		permissionDenied  = 7
		resourceExhausted = 8
		unimplemented     = 12
		internal          = 13
		unavailable       = 14
	)
	switch status {
	case http.StatusBadRequest:
		return internal
	case http.StatusForbidden:
		return permissionDenied
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return unimplemented
	case http.StatusTooManyRequests:
		return resourceExhausted
	case http.StatusGatewayTimeout:
		return grpcDeadlineExceeded
	default:
		return unavailable
	}
}
