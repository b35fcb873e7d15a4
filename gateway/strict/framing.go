package strict

import (
	"bytes"
	"strconv"
)

// state is where in a request the next byte belongs.
type state uint8

const (
	inRequestLine state = iota
	inHeader
	inBody      // of Content-Length
	inChunkSize // a line
	inChunk     // its data
	inChunkEnd  // the line end after it
	inTrailer
	open // no longer judged
)

const (
	// maxChunkLine bounds a chunk's size line: extensions are used by nobody.
	maxChunkLine = 256
	// keptLine is how large a line buffer is kept between requests.
	keptLine = 4 << 10
)

// framing follows HTTP/1 requests through a stream of bytes.
type framing struct {
	maxHead int

	state    state
	started  bool   // a request has begun on this connection
	line     []byte // the line so far
	head     int    // bytes of the head so far
	left     uint64 // bytes of the body or chunk to come
	http10   bool
	hosts    int
	length   uint64
	lengths  int
	codings  int
	badToken bool // a Transfer-Encoding that is not "chunked"
}

// follow judges p. It returns how many of its bytes are good, and the violation
// that the byte after them is.
func (f *framing) follow(p []byte) (good int, err error) {
	for i := 0; i < len(p); {
		switch f.state {
		case open:
			return len(p), nil
		case inBody, inChunk:
			n := uint64(len(p) - i)
			if n = min(n, f.left); n > 0 {
				f.left -= n
				i += int(n)
			}
			if f.left == 0 {
				f.bodyDone()
			}
		default:
			if err := f.byte(p[i]); err != nil {
				return i, err
			}
			i++
		}
	}
	return len(p), nil
}

// between reports whether the last request is whole and none has begun after it.
func (f *framing) between() bool { return f.state == inRequestLine && len(f.line) == 0 }

// inHead reports whether the next byte belongs to a request's head.
func (f *framing) inHead() bool { return f.state == inRequestLine || f.state == inHeader }

func (f *framing) bodyDone() {
	if f.state == inBody {
		f.nextRequest()
		return
	}
	f.state = inChunkEnd
}

func (f *framing) nextRequest() {
	line := f.line[:0]
	if cap(line) > keptLine {
		line = nil
	}
	*f = framing{maxHead: f.maxHead, started: f.started, line: line}
}

// byte takes one byte of a line.
func (f *framing) byte(c byte) error {
	if f.state != inChunkSize && f.state != inChunkEnd {
		if f.head++; f.head > f.maxHead {
			return &Error{"the head is larger than " + strconv.Itoa(f.maxHead) + " bytes"}
		}
	} else if len(f.line) >= maxChunkLine {
		return &Error{"a chunk's size line is too long"}
	}
	if f.state == inChunkEnd && len(f.line) == 0 && c != '\r' {
		// Here and not at the line's end: the server would see the byte, and take the
		// body's end for its own discovery.
		return &Error{"a chunk is longer than its size"}
	}
	afterCR := len(f.line) > 0 && f.line[len(f.line)-1] == '\r'
	switch {
	case c == '\n' && afterCR:
		line := f.line[:len(f.line)-1]
		f.line = f.line[:0]
		return f.takeLine(line)
	case c == '\n':
		return &Error{"a line ends without CR"}
	case afterCR:
		return &Error{"a CR is not followed by LF"}
	case c != '\r' && c != '\t' && (c < ' ' || c == 0x7f):
		return &Error{"a line has a control byte"}
	}
	f.line = append(f.line, c)
	return nil
}

func (f *framing) takeLine(line []byte) error {
	switch f.state {
	case inRequestLine:
		return f.requestLine(line)
	case inHeader:
		if len(line) == 0 {
			return f.headDone()
		}
		return f.field(line)
	case inChunkSize:
		return f.chunkSize(line)
	case inChunkEnd: // empty, or its first byte would have been refused
		f.state = inChunkSize
	case inTrailer:
		if len(line) == 0 {
			f.nextRequest()
			return nil
		}
		_, _, err := splitField(line)
		return err
	case inBody, inChunk, open:
	}
	return nil
}

func (f *framing) requestLine(line []byte) error {
	first := !f.started
	f.started = true
	if first && string(line) == "PRI * HTTP/2.0" {
		f.state = open
		return nil
	}
	method, rest, ok := bytes.Cut(line, []byte{' '})
	if !ok || !isToken(method) {
		return &Error{"the request line has no method"}
	}
	target, version, ok := bytes.Cut(rest, []byte{' '})
	if !ok || len(target) == 0 || bytes.ContainsAny(target, "\t") {
		return &Error{"the request line has no target"}
	}
	switch string(version) {
	case "HTTP/1.1":
	case "HTTP/1.0":
		f.http10 = true
	default:
		return &Error{"the version is neither HTTP/1.1 nor HTTP/1.0"}
	}
	f.state = inHeader
	return nil
}

// field takes one header line.
func (f *framing) field(line []byte) error {
	name, value, err := splitField(line)
	if err != nil {
		return err
	}
	switch {
	case bytes.EqualFold(name, []byte("Host")):
		f.hosts++
	case bytes.EqualFold(name, []byte("Content-Length")):
		f.lengths++
		n, ok := parseUint(value, 10)
		if !ok {
			return &Error{"the content length is no number"}
		}
		f.length = n
	case bytes.EqualFold(name, []byte("Transfer-Encoding")):
		f.codings++
		f.badToken = f.badToken || !bytes.EqualFold(value, []byte("chunked"))
	}
	return nil
}

func (f *framing) headDone() error {
	switch {
	case f.hosts > 1 || (f.hosts == 0 && !f.http10):
		return &Error{"there must be one Host"}
	case f.lengths > 1:
		return &Error{"there is more than one Content-Length"}
	case f.codings > 0 && f.lengths > 0:
		return &Error{"there are both a Transfer-Encoding and a Content-Length"}
	case f.codings > 0 && (f.http10 || f.codings > 1 || f.badToken):
		return &Error{"the only Transfer-Encoding is chunked, once, in HTTP/1.1"}
	case f.codings > 0:
		f.state = inChunkSize
	case f.length > 0:
		f.state, f.left = inBody, f.length
	default:
		f.nextRequest()
	}
	return nil
}

func (f *framing) chunkSize(line []byte) error {
	size, _, extended := bytes.Cut(line, []byte{';'})
	if extended {
		size = bytes.TrimRight(size, " \t") // RFC 9112, 7.1.1: bad white space
	}
	n, ok := parseUint(size, 16)
	if !ok {
		return &Error{"a chunk's size is no number"}
	}
	f.state, f.left = inChunk, n
	if n == 0 {
		f.state, f.head = inTrailer, 0
	}
	return nil
}

// splitField splits a header line into its name and its value without the white
// space around.
func splitField(line []byte) (name, value []byte, err error) {
	if line[0] == ' ' || line[0] == '\t' {
		return nil, nil, &Error{"a header line is folded"}
	}
	name, value, ok := bytes.Cut(line, []byte{':'})
	if !ok || !isToken(name) {
		return nil, nil, &Error{"a header line has no valid name"}
	}
	return name, bytes.Trim(value, " \t"), nil
}

// isToken is RFC 9110's token.
func isToken(b []byte) bool {
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
		case bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) >= 0:
		default:
			return false
		}
	}
	return len(b) > 0
}

// parseUint reads digits only: no sign, no space, no underscore. The bound keeps
// sums of lengths within an int64.
func parseUint(b []byte, base int) (uint64, bool) {
	if len(b) == 0 || len(b) > 18 || b[0] == '+' || b[0] == '-' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b), base, 63)
	return n, err == nil
}
