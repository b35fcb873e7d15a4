package wire

import (
	"io"
	"time"
)

// Header opens a stream: it says what the stream is for and who asks. It is
// sent once by the side that opens the stream, followed by payload in the same
// flight.
type Header struct {
	// Service is the exported service as the far cluster names it,
	// "name.namespace"; required.
	Service string
	// Port is the name of the service's port; empty means its only port.
	Port string
	// Caller is the SPIFFE ID that the near gateway vouches for; empty means an
	// anonymous caller.
	Caller string
	// Assurance is how the near gateway knows the caller.
	Assurance Assurance
	// TraceParent is a W3C traceparent value; empty means none.
	TraceParent string
	// Deadline is the time left to the caller when the stream was opened, in
	// whole milliseconds on the wire (rounded up); zero means none. At most
	// [MaxDeadline].
	Deadline time.Duration
	// Attempt counts the tries of this call, 0 for the first.
	Attempt uint8
	// Priority says which calls are refused last. A gateway that does not know the
	// field takes all for the default one.
	Priority Priority
	// Hash is that of the call's sticky key, at most [MaxHash]; zero means none. A gateway
	// that does not know the field chooses an endpoint as for any call.
	Hash uint64
	// Subset is the canonical text of the labels that the endpoint must have; empty means
	// any. It must be understood: it is sent on links with [FeatureSubsets] only.
	Subset string
	// Flow says that the stream is a flow of datagrams. It is no field: the kind of the stream
	// says it, which [ReadHeader] has not seen.
	Flow bool
}

// MaxHash bounds a sticky key's hash: the largest number of the wire.
const MaxHash = maxVarint

// Types of a header's fields. Types are never reused.
const (
	headerService     = 1
	headerTraceParent = 2
	headerPort        = 3
	headerDeadline    = 4
	headerCaller      = 5
	headerAttempt     = 6
	headerAssurance   = 7
	headerPriority    = 8
	headerHash        = 10
	headerSubset      = 13
	// 9 (session) and 11 (offset) are reserved for resumable streams.
)

// check says whether h can be sent.
func (h *Header) check() error {
	if h.Service == "" {
		return &FieldError{Field: "service", Rule: "is required"}
	}
	for _, f := range [...]struct{ name, value string }{
		{"service", h.Service}, {"port", h.Port}, {"caller", h.Caller}, {"traceparent", h.TraceParent}, {"subset", h.Subset},
	} {
		if len(f.value) > MaxField {
			return &FieldError{Field: f.name, Length: len(f.value), Rule: "is longer than 2048 bytes"}
		}
		if !visible(f.value) {
			return &FieldError{Field: f.name, Length: len(f.value), Rule: "must be printable ascii without spaces"}
		}
	}
	if !h.Assurance.Valid() {
		return &FieldError{Field: "assurance", Length: 1, Rule: "must be one of the known ones"}
	}
	if h.Hash > MaxHash {
		return &FieldError{Field: "hash", Length: 8, Rule: "is larger than its limit"}
	}
	if !h.Priority.Valid() {
		return &FieldError{Field: "priority", Length: 1, Rule: "must be one of the known ones"}
	}
	return nil
}

// AppendHeader appends the kind of a stream and its header. Deadlines outside
// the bounds are clipped: a caller with more time than MaxDeadline has no
// deadline in practice. Errors are of type [*FieldError].
func AppendHeader(b []byte, h *Header) ([]byte, error) {
	if err := h.check(); err != nil {
		return b, err
	}
	whole := len(b)
	kind := KindStream
	if h.Flow {
		kind = KindFlow
	}
	b = AppendKind(b, kind)
	// The length comes first. Nearly every header takes two bytes for it, so two
	// are reserved and the body moves by one in the other case.
	const reserved = 2
	start := len(b)
	b = append(b, 0, 0)
	b = appendText(b, headerService, h.Service)
	b = appendText(b, headerTraceParent, h.TraceParent)
	b = appendText(b, headerPort, h.Port)
	b = appendNumber(b, headerDeadline, milliseconds(h.Deadline, MaxDeadline))
	b = appendText(b, headerCaller, h.Caller)
	b = appendNumber(b, headerAttempt, uint64(h.Attempt))
	b = appendNumber(b, headerAssurance, uint64(h.Assurance))
	b = appendNumber(b, headerPriority, uint64(h.Priority))
	b = appendNumber(b, headerHash, h.Hash)
	b = appendText(b, headerSubset, h.Subset)
	n := len(b) - start - reserved
	if n > MaxHeader {
		return b[:whole], &FieldError{Field: "header", Length: n, Rule: "is longer than 8192 bytes"}
	}
	if varintLen(uint64(n)) == 1 {
		copy(b[start+1:], b[start+reserved:])
		b = b[:len(b)-1]
	}
	appendVarint(b[:start], uint64(n)) // writes into the space that was reserved
	return b, nil
}

// ReadHeader reads a header after its kind, not a byte more. It returns
// [*ParseError] for what breaks the protocol and r's errors otherwise.
func ReadHeader(r io.Reader, h *Header) error {
	buf := getBuffer(8)
	defer putBuffer(buf)
	n, err := readVarint(r, *buf)
	if err != nil {
		return unexpected(err)
	}
	if n > MaxHeader {
		return malformed("header", "is longer than 8192 bytes")
	}
	body := getBuffer(int(n))
	defer putBuffer(body)
	if _, err := io.ReadFull(r, *body); err != nil {
		return unexpected(err)
	}
	return ParseHeader(*body, h)
}

// ParseHeader parses a header without its kind and length. The strings of h
// share one copy of b. On error h is undefined.
func ParseHeader(b []byte, h *Header) error {
	if len(b) > MaxHeader {
		return malformed("header", "is longer than 8192 bytes")
	}
	*h = Header{}
	f := fields{rest: string(b)}
	for {
		typ, value, ok, err := f.next()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		var n uint64
		switch typ {
		case headerService:
			h.Service, err = value, checkVisible("service", value)
		case headerTraceParent:
			h.TraceParent, err = value, checkVisible("traceparent", value)
		case headerPort:
			h.Port, err = value, checkVisible("port", value)
		case headerDeadline:
			n, err = number("deadline", value, uint64(MaxDeadline/time.Millisecond))
			h.Deadline = time.Duration(n) * time.Millisecond
		case headerCaller:
			h.Caller, err = value, checkVisible("caller", value)
		case headerAttempt:
			n, err = number("attempt", value, 255)
			h.Attempt = uint8(n)
		case headerAssurance:
			n, err = number("assurance", value, uint64(len(assuranceNames)-1))
			h.Assurance = Assurance(n)
		case headerPriority:
			n, err = number("priority", value, uint64(len(priorityNames)-1))
			h.Priority = Priority(n)
		case headerHash:
			h.Hash, err = number("hash", value, MaxHash)
		case headerSubset:
			h.Subset, err = value, checkVisible("subset", value)
		default:
			err = unknown(typ)
		}
		if err != nil {
			return err
		}
	}
	if h.Service == "" {
		return malformed("service", "is missing")
	}
	return nil
}

func checkVisible(part, value string) error {
	if !visible(value) {
		return malformed(part, "must be printable ascii without spaces")
	}
	return nil
}

// milliseconds rounds up, so that a deadline in the near future does not become
// "no deadline"; it is clipped to [0, limit].
func milliseconds(d, limit time.Duration) uint64 {
	d = max(0, min(d, limit))
	return uint64((d + time.Millisecond - 1) / time.Millisecond)
}
