package relay

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/http"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// The fields that a call is found by afterwards, in canonical form.
const (
	FieldRequestID   = "X-Request-Id"
	fieldTraceParent = "Traceparent"
)

// TraceOf is the request's own trace context, if it has exactly one that is well
// formed. The field itself travels on as it is.
func TraceOf(h http.Header) (wire.TraceParent, bool) {
	values := h[fieldTraceParent]
	if len(values) != 1 {
		return wire.TraceParent{}, false
	}
	return wire.ParseTraceParent(values[0])
}

// RequestID is the request's own ID, "" if it has none that may be taken over.
func RequestID(h http.Header) string {
	values := h[FieldRequestID]
	if len(values) != 1 || !wire.ValidRequestID(values[0]) {
		return ""
	}
	return values[0]
}

// SetRequestID gives the request an ID if it has none that may be taken over, and
// returns its ID.
func SetRequestID(h http.Header) string {
	id := RequestID(h)
	if id == "" {
		id = randomHex(2)
		h[FieldRequestID] = []string{id}
	}
	return id
}

// NewTrace begins a trace, for the gateways on the way alone. Its IDs need to be
// distinct, not secret.
func NewTrace(sampled bool) wire.TraceParent {
	t := wire.TraceParent{TraceID: randomHex(2), SpanID: randomHex(1), Sampled: sampled}
	return t
}

// randomHex is n random words in hexadecimal, none of them 0.
func randomHex(n int) string {
	var raw [16]byte
	for i := range n {
		binary.BigEndian.PutUint64(raw[8*i:], rand.Uint64()|1)
	}
	return hex.EncodeToString(raw[:8*n])
}
