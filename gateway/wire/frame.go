package wire

import (
	"io"
)

// FrameType is the type of a control frame. Types are never reused.
type FrameType uint64

// The types.
const (
	FrameHello     FrameType = 1
	FrameReport    FrameType = 2
	FrameDrain     FrameType = 3
	FrameCallback  FrameType = 4
	FrameChallenge FrameType = 5
	FrameProof     FrameType = 6
	FrameLoad      FrameType = 7
	FrameRate      FrameType = 8
)

// String returns the word that logs and metrics use.
func (t FrameType) String() string {
	switch t {
	case FrameHello:
		return "hello"
	case FrameReport:
		return "report"
	case FrameDrain:
		return "drain"
	case FrameCallback:
		return "callback"
	case FrameChallenge:
		return "challenge"
	case FrameProof:
		return "proof"
	case FrameLoad:
		return "load"
	case FrameRate:
		return "rate"
	}
	return "unknown"
}

// limit bounds the body of a frame. Only a report and a load may be large, and a
// proof as large as the certificates in it.
func (t FrameType) limit() uint64 {
	switch t {
	case FrameHello, FrameDrain, FrameCallback, FrameChallenge, FrameRate:
		return maxSmallFrame
	case FrameProof:
		return MaxProof
	case FrameLoad:
		return maxLoad
	case FrameReport:
	}
	return MaxFrame
}

// appendFrame appends a frame around a body.
func appendFrame(b []byte, t FrameType, body []byte) []byte {
	b = appendVarint(b, uint64(t))
	b = appendVarint(b, uint64(len(body)))
	return append(b, body...)
}

// FrameReader reads control frames from a stream.
type FrameReader struct {
	r       io.Reader
	scratch [8]byte
	buf     []byte
}

// NewFrameReader returns a FrameReader on r, which stands after the kind.
func NewFrameReader(r io.Reader) *FrameReader { return &FrameReader{r: r} }

// Next returns the type and the body of the next frame of a known type and skips
// others. The body is valid until the next call. It returns io.EOF at the end of
// the stream, [*ParseError] for what breaks the protocol, and the Reader's errors.
func (f *FrameReader) Next() (FrameType, []byte, error) {
	for {
		v, err := readVarint(f.r, f.scratch[:])
		if err != nil {
			return 0, nil, err
		}
		n, err := readVarint(f.r, f.scratch[:])
		if err != nil {
			return 0, nil, unexpected(err)
		}
		t := FrameType(v)
		if n > t.limit() {
			return 0, nil, malformed("frame "+t.String(), "is longer than its limit")
		}
		switch t {
		case FrameHello, FrameReport, FrameDrain, FrameCallback, FrameChallenge, FrameProof, FrameLoad, FrameRate:
			body, err := f.body(int(n))
			return t, body, err
		default:
			if _, err := io.CopyN(io.Discard, f.r, int64(n)); err != nil {
				return 0, nil, unexpected(err)
			}
		}
	}
}

// body reads n bytes. Memory grows with what really arrives: a peer that
// announces a megabyte and sends nothing costs nothing.
func (f *FrameReader) body(n int) ([]byte, error) {
	const step = 16 << 10
	if cap(f.buf) > keepBuffer && n <= keepBuffer {
		f.buf = nil // a large report is over: give its memory back
	}
	f.buf = f.buf[:0]
	for len(f.buf) < n {
		from := len(f.buf)
		m := min(n-from, step)
		f.buf = append(f.buf, make([]byte, m)...)
		if _, err := io.ReadFull(f.r, f.buf[from:]); err != nil {
			return nil, unexpected(err)
		}
	}
	return f.buf, nil
}
