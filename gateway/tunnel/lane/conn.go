package lane

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

const (
	// closeTime is how long the word on why a connection ends may take to get into
	// the socket: there is room for it unless the other end has not read for long.
	closeTime = 50 * time.Millisecond
	// resetTime is how long a reset may take, and cutTime how long a Write that is
	// under way may, before the connection goes with it.
	resetTime = time.Second
	cutTime   = 100 * time.Millisecond
	// maxPending bounds what waits to be written beside payload.
	maxPending = 4 << 10
)

// Conn is one authenticated connection.
type Conn struct {
	tls   *tls.Conn
	meter *meter
	state tls.ConnectionState

	ctx    context.Context // ends with the connection
	cancel context.CancelCauseFunc
	once   sync.Once
	plain  atomic.Bool // another protocol has it

	// reading is held by who reads records; what follows belongs to it.
	reading sync.Mutex
	head    [headerSize]byte
	have    int // of head
	kind    byte
	left    int // of the body of the record under way
	body    [maxSmall]byte
	got     int // of body
	// watching: it is held by who reads ahead.
	watching atomic.Bool

	// writing is held by who writes to the connection.
	writing sync.Mutex

	// pendingMu guards what is to be written beside payload, and write deadlines.
	pendingMu sync.Mutex
	pending   []byte
	urgent    bool // a reset waits

	mu         sync.Mutex
	stream     *Stream // the current one
	count      uint64  // of streams so far
	parked     chan struct{}
	onDatagram func([]byte)
	ended      bool // no more goroutines
	wg         sync.WaitGroup

	freed chan struct{} // has room for one: the current stream is over
}

// Client performs a handshake as the end that dialed; Server as the one that was
// dialed. raw is closed when that fails, or ctx ends before.
func Client(ctx context.Context, raw net.Conn, config *tls.Config) (*Conn, error) {
	return handshake(ctx, raw, config, tls.Client)
}

// Server is [Client] of the other end.
func Server(ctx context.Context, raw net.Conn, config *tls.Config) (*Conn, error) {
	return handshake(ctx, raw, config, tls.Server)
}

func handshake(ctx context.Context, raw net.Conn, config *tls.Config, role func(net.Conn, *tls.Config) *tls.Conn) (*Conn, error) {
	config = config.Clone()
	config.DynamicRecordSizingDisabled = true // it is about the first byte of a web page
	m := &meter{Conn: raw}
	secure := role(m, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = raw.Close() // nothing more can be said on it
		return nil, err
	}
	c := &Conn{tls: secure, meter: m, state: secure.ConnectionState(), freed: make(chan struct{}, 1)}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	return c, nil
}

// Context ends with the connection; its cause says why.
func (c *Conn) Context() context.Context { return c.ctx }

// ConnectionState is that of TLS.
func (c *Conn) ConnectionState() quic.ConnectionState { return quic.ConnectionState{TLS: c.state} }

// RemoteAddr is the address of the other end.
func (c *Conn) RemoteAddr() net.Addr { return c.meter.RemoteAddr() }

// ConnectionStats counts bytes of TCP payload, and what the socket gave and took at
// once in the place of packets.
func (c *Conn) ConnectionStats() quic.ConnectionStats {
	return quic.ConnectionStats{
		BytesSent: c.meter.sent.Load(), BytesReceived: c.meter.received.Load(),
		PacketsSent: c.meter.writes.Load(), PacketsReceived: c.meter.reads.Load(),
	}
}

// OnDatagram sets who takes datagrams. It is called by who reads the stream.
func (c *Conn) OnDatagram(f func([]byte)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onDatagram = f
}

var errTooLong = errors.New("datagram is too long, or too many wait")

// SendDatagram sends b soon, apart from the stream. It does not wait.
func (c *Conn) SendDatagram(b []byte) error {
	if len(b) > maxSmall || !c.queue(append(appendHeader(nil, recordDatagram, len(b)), b...), false) {
		return errTooLong
	}
	return nil
}

// CloseWithError ends the connection and tells the other end why.
func (c *Conn) CloseWithError(code quic.ApplicationErrorCode, message string) error {
	c.once.Do(func() {
		c.cancel(&quic.ApplicationError{ErrorCode: code, ErrorMessage: message})
		if !c.plain.Load() && c.writing.TryLock() {
			_ = c.meter.SetWriteDeadline(time.Now().Add(closeTime))
			_, _ = c.tls.Write(numbers(recordClose, uint64(code))) // best effort
			c.writing.Unlock()
		}
		_ = c.meter.Close()
	})
	return nil
}

// fail ends the connection without a word. An end of TCP that no record has told of is
// none of a stream: anybody on the way can make one.
func (c *Conn) fail(cause error) {
	if errors.Is(cause, io.EOF) {
		cause = io.ErrUnexpectedEOF
	}
	c.once.Do(func() {
		c.cancel(cause)
		_ = c.meter.Close()
	})
}

// Wait waits for the goroutines of the connection, which must have ended.
func (c *Conn) Wait() {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.wg.Wait()
}

// spawn runs f in a goroutine that Wait waits for; false means that it is too late.
func (c *Conn) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	c.wg.Go(f)
	return true
}

// broken is what an error of reading or writing means: a deadline has passed, or the
// connection has ended.
func (c *Conn) broken(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	c.fail(err)
	return context.Cause(c.ctx)
}

func (c *Conn) protocol(format string, args ...any) error {
	_ = c.CloseWithError(quic.ApplicationErrorCode(wire.Protocol), wire.Protocol.String())
	return &wire.ParseError{Part: "record", Rule: fmt.Sprintf(format, args...)}
}

// step reads on until payload has come or one other record was handled. It returns
// after any record; reading is held. of is the stream that reads, nil for none.
func (c *Conn) step(of *Stream) error {
	for c.kind == 0 {
		n, err := c.tls.Read(c.head[c.have:])
		if c.have += n; c.have < headerSize {
			if err != nil {
				return c.broken(err)
			}
			continue
		}
		c.have, c.got = 0, 0
		c.kind, c.left = c.head[0], int(c.head[1])<<16|int(c.head[2])<<8|int(c.head[3])
		if c.left > limit(c.kind) {
			return c.protocol("of type %d has a length of %d", c.kind, c.left)
		}
	}
	if c.kind == recordData {
		if of == nil {
			return nil // the caller knows what it means
		}
		if c.left == 0 {
			c.kind = 0
		}
		return nil
	}
	for c.left > 0 {
		n, err := c.tls.Read(c.body[c.got : c.got+c.left])
		c.got, c.left = c.got+n, c.left-n
		if err != nil && c.left > 0 {
			return c.broken(err)
		}
	}
	kind, body := c.kind, c.body[:c.got]
	c.kind = 0
	return c.handle(of, kind, body)
}

// handle does what a record says that is not payload.
func (c *Conn) handle(of *Stream, kind byte, body []byte) error {
	if kind != recordDatagram && len(body) != limit(kind) {
		return c.protocol("of type %d is cut short", kind)
	}
	switch kind {
	case recordClose:
		c.fail(&quic.ApplicationError{Remote: true, ErrorCode: quic.ApplicationErrorCode(number(body, 0))})
		return context.Cause(c.ctx)
	case recordDatagram:
		c.mu.Lock()
		f := c.onDatagram
		c.mu.Unlock()
		if f != nil {
			f(body)
		}
	case recordStop:
		// It may be about a stream that has ended here meanwhile.
		if of != nil && number(body, 0) == of.number {
			of.stopped(number(body, 1))
		}
	case recordEnd, recordReset:
		if of == nil {
			return c.protocol("of type %d without a stream", kind)
		}
		if kind == recordEnd {
			of.received(errEOF)
		} else {
			of.received(streamError(number(body, 0), true))
		}
	}
	return nil
}

// queue has a record written soon; false means that too much waits already.
func (c *Conn) queue(record []byte, urgent bool) bool {
	c.pendingMu.Lock()
	if len(c.pending) > maxPending && !urgent {
		c.pendingMu.Unlock()
		return false
	}
	c.pending = append(c.pending, record...)
	if urgent && !c.urgent {
		c.urgent = true
		// A Write that waits is cut off. There is no way back into the middle of a
		// record: the connection goes with it.
		_ = c.meter.SetWriteDeadline(time.Now().Add(cutTime))
	}
	c.pendingMu.Unlock()
	c.flushSoon()
	return true
}

// take returns what is pending, and gives the write the time that it may have.
func (c *Conn) take(to []byte) []byte {
	c.pendingMu.Lock()
	defer c.pendingMu.Unlock()
	to = append(to, c.pending...)
	c.pending = c.pending[:0]
	if c.urgent {
		_ = c.meter.SetWriteDeadline(time.Now().Add(resetTime))
	}
	return to
}

// taken ends what take began, after the write.
func (c *Conn) taken() {
	c.pendingMu.Lock()
	defer c.pendingMu.Unlock()
	if c.urgent && len(c.pending) == 0 {
		c.urgent = false
		_ = c.meter.SetWriteDeadline(time.Time{})
	}
}

// flushSoon writes what is pending, in a goroutine since that may wait; while
// somebody writes, it is written by that one.
func (c *Conn) flushSoon() {
	if !c.writing.TryLock() {
		return
	}
	if !c.spawn(func() {
		var buf [maxSmall * 2]byte
		b := c.take(buf[:0])
		if len(b) > 0 {
			_ = c.write(b) // who uses the connection finds out
		}
		c.release()
	}) {
		c.writing.Unlock()
	}
}

// release gives up writing, and looks for what has become pending meanwhile.
func (c *Conn) release() {
	c.writing.Unlock()
	c.pendingMu.Lock()
	more := len(c.pending) > 0
	c.pendingMu.Unlock()
	if more && c.ctx.Err() == nil {
		c.flushSoon()
	}
}

// write writes b whole; writing is held. A write that failed has left half a record:
// the connection ends.
func (c *Conn) write(b []byte) error {
	_, err := c.tls.Write(b)
	c.taken()
	if err == nil {
		return nil
	}
	c.fail(err)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return context.Cause(c.ctx)
}
