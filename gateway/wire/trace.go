package wire

// TraceParent is a W3C trace context of version 00, taken apart.
type TraceParent struct {
	// TraceID has 32 hexadecimal digits, SpanID 16.
	TraceID, SpanID string
	// Sampled says that whoever began the trace records it.
	Sampled bool
}

const (
	traceParentLength = 55
	traceIDEnd        = 35
	spanIDEnd         = 52
)

// ParseTraceParent reads the value of a traceparent field. What is not exactly of
// version 00 (small hexadecimal digits, no ID of zeros) is none.
func ParseTraceParent(s string) (t TraceParent, ok bool) {
	if len(s) != traceParentLength || s[:3] != "00-" || s[traceIDEnd] != '-' || s[spanIDEnd] != '-' {
		return t, false
	}
	trace, span, flags := s[3:traceIDEnd], s[traceIDEnd+1:spanIDEnd], s[spanIDEnd+1:]
	if !ValidTraceID(trace) || !hexDigits(span) || zeros(span) || !hexDigits(flags) {
		return t, false
	}
	last := flags[1]
	return TraceParent{TraceID: trace, SpanID: span, Sampled: hexValue(last)&1 == 1}, true
}

// ValidTraceID reports whether s is a trace ID: 32 small hexadecimal digits that
// are not all zero.
func ValidTraceID(s string) bool { return len(s) == 32 && hexDigits(s) && !zeros(s) }

// String is the value of the field.
func (t TraceParent) String() string {
	if t.Sampled {
		return "00-" + t.TraceID + "-" + t.SpanID + "-01"
	}
	return "00-" + t.TraceID + "-" + t.SpanID + "-00"
}

// MaxRequestID bounds an x-request-id that is taken over.
const MaxRequestID = 128

// ValidRequestID reports whether s may be taken over as the ID of a request: up to
// MaxRequestID letters, digits and "-._~:=+/@".
func ValidRequestID(s string) bool {
	if s == "" || len(s) > MaxRequestID {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case c == '-', c == '.', c == '_', c == '~', c == ':', c == '=', c == '+', c == '/', c == '@':
		default:
			return false
		}
	}
	return true
}

func hexDigits(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func zeros(s string) bool {
	for i := range len(s) {
		if s[i] != '0' {
			return false
		}
	}
	return true
}

func hexValue(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c - 'a' + 10
}
