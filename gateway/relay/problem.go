package relay

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"

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
}

// retryAfter is what a caller is told to wait where waiting helps.
const retryAfter = "1"

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
	if p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable {
		h.Set("Retry-After", retryAfter)
	}
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the caller is gone, or has it
	}
}

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
