package wire

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// HTTP header fields that carry a [Header] with a request and a [Reply] with a
// response, between two gateways only. All names share one prefix, so that what
// comes from outside is stripped by prefix and a field of a later version
// cannot slip through.
const (
	// FieldPrefix is the prefix of all of them, in canonical form.
	FieldPrefix = "Isthmus-"

	FieldService     = FieldPrefix + "Service"
	FieldPort        = FieldPrefix + "Port"
	FieldCaller      = FieldPrefix + "Caller"
	FieldAssurance   = FieldPrefix + "Assurance"
	FieldTraceParent = FieldPrefix + "Traceparent"
	FieldDeadline    = FieldPrefix + "Deadline-Ms"
	FieldAttempt     = FieldPrefix + "Attempt"
	FieldPriority    = FieldPrefix + "Priority"
	FieldHash        = FieldPrefix + "Hash"
	FieldSubset      = FieldPrefix + "Subset"

	FieldStatus     = FieldPrefix + "Status"
	FieldMessage    = FieldPrefix + "Message"
	FieldRetryAfter = FieldPrefix + "Retry-After-Ms"
)

// StripHTTP removes every field of the tunnel, and what a careless reader could
// take for one (some servers treat "_" as "-").
func StripHTTP(h http.Header) {
	for name := range h {
		if isField(name) {
			delete(h, name)
		}
	}
}

func isField(name string) bool {
	const stem = len(FieldPrefix) - 1
	return len(name) > stem && (name[stem] == '-' || name[stem] == '_') &&
		strings.EqualFold(name[:stem], FieldPrefix[:stem])
}

// SetHTTP strips dst and writes h's fields into it. Errors are of type
// [*FieldError].
func (h *Header) SetHTTP(dst http.Header) error {
	if err := h.check(); err != nil {
		return err
	}
	StripHTTP(dst)
	for _, f := range [...]struct{ name, value string }{
		{FieldService, h.Service},
		{FieldPort, h.Port},
		{FieldCaller, h.Caller},
		{FieldTraceParent, h.TraceParent},
		{FieldSubset, h.Subset},
	} {
		if f.value != "" {
			dst[f.name] = []string{f.value}
		}
	}
	if h.Assurance != AssuranceNone {
		dst[FieldAssurance] = []string{h.Assurance.String()}
	}
	if h.Priority != PriorityDefault {
		dst[FieldPriority] = []string{h.Priority.String()}
	}
	setNumber(dst, FieldDeadline, milliseconds(h.Deadline, MaxDeadline))
	setNumber(dst, FieldAttempt, uint64(h.Attempt))
	setNumber(dst, FieldHash, h.Hash)
	return nil
}

// HeaderFromHTTP reads the fields that SetHTTP wrote and refuses any other form
// with [*ParseError]. src keeps the fields.
func HeaderFromHTTP(src http.Header) (Header, error) {
	var h Header
	for _, f := range [...]struct {
		name string
		dst  *string
	}{
		{FieldService, &h.Service},
		{FieldPort, &h.Port},
		{FieldCaller, &h.Caller},
		{FieldTraceParent, &h.TraceParent},
		{FieldSubset, &h.Subset},
	} {
		value, err := single(src, f.name)
		if err != nil {
			return Header{}, err
		}
		if len(value) > MaxField || !visible(value) {
			return Header{}, malformed("header field "+f.name, "must be at most 2048 bytes of printable ascii without spaces")
		}
		*f.dst = value
	}
	if h.Service == "" {
		return Header{}, malformed("header field "+FieldService, "is missing")
	}
	assurance, err := single(src, FieldAssurance)
	if err != nil {
		return Header{}, err
	}
	if assurance != "" {
		var ok bool
		if h.Assurance, ok = ParseAssurance(assurance); !ok || h.Assurance == AssuranceNone {
			return Header{}, malformed("header field "+FieldAssurance, "is not one of the known ones")
		}
	}
	priority, err := single(src, FieldPriority)
	if err != nil {
		return Header{}, err
	}
	if priority != "" {
		var ok bool
		if h.Priority, ok = ParsePriority(priority); !ok || h.Priority == PriorityDefault {
			return Header{}, malformed("header field "+FieldPriority, "is not one of the known ones")
		}
	}
	deadline, err := getNumber(src, FieldDeadline, uint64(MaxDeadline/time.Millisecond))
	if err != nil {
		return Header{}, err
	}
	h.Deadline = time.Duration(deadline) * time.Millisecond
	if h.Hash, err = getNumber(src, FieldHash, MaxHash); err != nil {
		return Header{}, err
	}
	attempt, err := getNumber(src, FieldAttempt, 255)
	h.Attempt = uint8(attempt)
	return h, err
}

// SetHTTP strips dst and writes r's fields into it, clipped as by [AppendReply].
func (r Reply) SetHTTP(dst http.Header) {
	StripHTTP(dst)
	status := r.Status
	if !status.Valid() {
		status = Internal
	}
	dst[FieldStatus] = []string{status.String()}
	// Header fields are ASCII; other text would be dropped by some parser anyway.
	if m := clipMessage(r.Message); m != "" && visible(strings.ReplaceAll(m, " ", "")) && m == strings.TrimSpace(m) {
		dst[FieldMessage] = []string{m}
	}
	setNumber(dst, FieldRetryAfter, milliseconds(r.RetryAfter, MaxRetryAfter))
}

// ReplyFromHTTP reads what [Reply.SetHTTP] wrote; ok is false when there is no
// reply. What is malformed gives [*ParseError].
func ReplyFromHTTP(src http.Header) (r Reply, ok bool, err error) {
	status, err := single(src, FieldStatus)
	if err != nil || status == "" {
		return Reply{}, false, err
	}
	if r.Status, ok = ParseStatus(status); !ok {
		return Reply{}, false, malformed("header field "+FieldStatus, "is not of the closed set")
	}
	if r.Message, err = single(src, FieldMessage); err != nil {
		return Reply{}, false, err
	}
	if len(r.Message) > MaxMessage || !printable(r.Message) {
		return Reply{}, false, malformed("header field "+FieldMessage, "must be at most 512 bytes of printable text")
	}
	n, err := getNumber(src, FieldRetryAfter, uint64(MaxRetryAfter/time.Millisecond))
	if err != nil {
		return Reply{}, false, err
	}
	r.RetryAfter = time.Duration(n) * time.Millisecond
	return r, true, nil
}

// single returns the one value of a field, "" when absent. An empty value is
// refused: the field should be absent.
func single(src http.Header, name string) (string, error) {
	switch values := src[name]; {
	case len(values) == 0:
		return "", nil
	case len(values) > 1:
		return "", malformed("header field "+name, "is repeated")
	case values[0] == "":
		return "", malformed("header field "+name, "is empty")
	default:
		return values[0], nil
	}
}

func setNumber(dst http.Header, name string, v uint64) {
	if v != 0 {
		dst[name] = []string{strconv.FormatUint(v, 10)}
	}
}

func getNumber(src http.Header, name string, limit uint64) (uint64, error) {
	value, err := single(src, name)
	if err != nil || value == "" {
		return 0, err
	}
	v, err := strconv.ParseUint(value, 10, 64)
	if err != nil || v == 0 || v > limit || value[0] == '0' || value[0] == '+' {
		return 0, malformed("header field "+name, "is not a number within its limit")
	}
	return v, nil
}
