package wire

import "io"

// Kind is the first number on every stream.
type Kind uint64

// The kinds.
const (
	// KindStream: a header, then payload.
	KindStream Kind = 1
	// KindControl: control frames.
	KindControl Kind = 2
	// KindFlow: a header, then datagrams ([AppendFlowFrame]); others travel as QUIC
	// datagrams ([AppendFlowDatagram]).
	KindFlow Kind = 3
)

// String returns the word that logs and metrics use.
func (k Kind) String() string {
	switch k {
	case KindStream:
		return "stream"
	case KindControl:
		return "control"
	case KindFlow:
		return "flow"
	}
	return "unknown"
}

// AppendKind appends k.
func AppendKind(b []byte, k Kind) []byte { return appendVarint(b, uint64(k)) }

// ReadKind reads the kind of a stream, not a byte more. A kind that is not known
// is returned without error: the caller refuses it.
func ReadKind(r io.Reader) (Kind, error) {
	buf := getBuffer(8)
	defer putBuffer(buf)
	v, err := readVarint(r, *buf)
	return Kind(v), err
}
