package lane

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

const (
	// drainMost and drainTime bound what is thrown away after Close until the other
	// end has ended its direction, too; abandonTime is for a stream that was reset.
	drainMost   = 64 << 20
	drainTime   = time.Minute
	abandonTime = 2 * time.Second
	drainBuffer = 32 << 10
)

// errEOF is the end of a direction.
var errEOF = io.EOF

// buffers hold a record that is written.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, maxData+headerSize+2*maxSmall); return &b }}

// Stream is the stream that a connection carries now. It has the methods of QUIC's
// streams: one goroutine may read while another writes, and Close must not run
// while Write does.
type Stream struct {
	conn   *Conn
	number uint64

	mu       sync.Mutex
	recvErr  error // how the other end's direction has ended
	readErr  error // CancelRead was called
	sendErr  error // why nothing more can be sent; nil while it can
	sentDone bool  // an end or a reset was queued
	reset    bool
	over     bool

	ahead []byte // payload that was read for a Read to come

	unwatched int         // bytes written since somebody looked for a stop; of who writes
	wanted    atomic.Bool // Read wants to read
	until     time.Time   // deadline of Read; conn.mu guards it
}

// Read implements io.Reader.
func (s *Stream) Read(p []byte) (int, error) {
	c := s.conn
	if n, err := s.ready(p); n > 0 || err != nil {
		return n, err // somebody else may be reading: to throw away, or ahead
	}
	s.lockReading()
	defer s.unlockReading()
	for {
		if n, err := s.ready(p); n > 0 || err != nil {
			return n, err
		}
		n, err := c.payload(s, p)
		if n > 0 {
			return n, nil
		}
		if err != nil {
			if cancelled := s.readable(); cancelled != nil && errors.Is(err, os.ErrDeadlineExceeded) {
				return 0, cancelled
			}
			return 0, err
		}
		if len(p) == 0 {
			return 0, nil
		}
	}
}

// payload reads what there is of the record under way, or goes on to the next.
func (c *Conn) payload(s *Stream, p []byte) (int, error) {
	if c.kind != recordData || c.left == 0 {
		return 0, c.step(s)
	}
	n, err := c.tls.Read(p[:min(len(p), c.left)])
	if c.left -= n; c.left == 0 {
		c.kind = 0
	}
	if n > 0 {
		return n, nil // an error comes again
	}
	if err != nil {
		return 0, c.broken(err)
	}
	return 0, nil
}

// readable is why nothing can be read any more, or nil.
func (s *Stream) readable() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readErr != nil {
		return s.readErr
	}
	return s.recvErr
}

// received takes the end of the other direction.
func (s *Stream) received(err error) {
	s.mu.Lock()
	s.recvErr = err
	s.mu.Unlock()
	s.settle()
}

// stopped takes the word that the other end reads no more.
func (s *Stream) stopped(code uint64) {
	s.mu.Lock()
	again := s.sentDone
	if !again {
		s.sendErr, s.sentDone = streamError(code, true), true
		// A Write under way gets through: the other end throws it away.
		s.conn.queue(numbers(recordReset, code), false)
	}
	s.mu.Unlock()
	if !again {
		s.settle()
	}
}

// settle frees the connection once both directions have ended.
func (s *Stream) settle() {
	c := s.conn
	s.mu.Lock()
	over := s.recvErr != nil && s.sentDone && !s.over
	s.over = s.over || over
	s.mu.Unlock()
	if !over {
		return
	}
	c.mu.Lock()
	mine := c.stream == s
	if mine {
		c.stream = nil
	}
	c.mu.Unlock()
	if mine {
		select {
		case c.freed <- struct{}{}:
		default:
		}
	}
}

// CancelRead tells the other end to stop sending; what still comes is thrown away.
func (s *Stream) CancelRead(code quic.StreamErrorCode) {
	c := s.conn
	s.mu.Lock()
	if s.recvErr != nil || s.readErr != nil || c.ctx.Err() != nil {
		s.mu.Unlock()
		return
	}
	s.readErr, s.ahead = streamError(uint64(code), false), nil
	patience := drainTime
	if s.reset {
		patience = abandonTime
	}
	s.mu.Unlock()
	c.queue(numbers(recordStop, s.number, uint64(code)), false)
	s.deadline(time.Unix(1, 0)) // ends a Read that waits
	c.spawn(func() { s.drain(patience) })
}

// deadline sets the read deadline while the stream is the current one.
func (s *Stream) deadline(t time.Time) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if s.conn.stream == s {
		_ = s.conn.meter.SetReadDeadline(t)
	}
}

// drain throws away what comes until the other end has ended its direction.
func (s *Stream) drain(patience time.Duration) {
	c := s.conn
	c.reading.Lock()
	defer c.reading.Unlock()
	s.deadline(time.Now().Add(patience))
	buf := make([]byte, drainBuffer)
	for most := drainMost; ; {
		s.mu.Lock()
		done := s.recvErr != nil
		s.mu.Unlock()
		if done {
			return
		}
		n, err := c.payload(s, buf)
		if most -= n; err != nil || most < 0 {
			// It does not listen, or not to us: the next call needs another.
			_ = c.CloseWithError(quic.ApplicationErrorCode(wire.Reset), wire.Reset.String())
			return
		}
	}
}

// Write implements io.Writer.
func (s *Stream) Write(p []byte) (int, error) {
	c := s.conn
	c.writing.Lock()
	defer c.release()
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	written := 0
	for {
		if err := s.writable(); err != nil {
			return written, err
		}
		chunk := p[written:min(len(p), written+maxData)]
		if len(chunk) == 0 {
			return written, nil
		}
		b := c.take((*buf)[:0])
		b = append(appendHeader(b, recordData, len(chunk)), chunk...)
		if cap(b) == cap(*buf) {
			*buf = b
		}
		if err := c.write(b); err != nil {
			if cancelled := s.writable(); cancelled != nil && errors.Is(err, os.ErrDeadlineExceeded) {
				err = cancelled
			}
			return written, err
		}
		written += len(chunk)
		if s.unwatched += len(chunk); s.unwatched >= watchEvery {
			s.unwatched = 0
			s.watch()
		}
	}
}

// TryWriteAll writes p whole or not at all. It may wait: a socket that has no room is
// one whose other end does not read, and this is the first that is sent there.
func (s *Stream) TryWriteAll(p []byte) error {
	_, err := s.Write(p)
	return err
}

// writable is why nothing can be sent any more, or nil.
func (s *Stream) writable() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.sendErr != nil:
		return s.sendErr
	case s.sentDone:
		return quic.ErrStreamClosed
	case s.conn.ctx.Err() != nil:
		return context.Cause(s.conn.ctx)
	}
	return nil
}

// Close ends the direction that is written: the other end reads EOF.
func (s *Stream) Close() error {
	s.mu.Lock()
	again := s.sentDone
	if !again {
		s.sentDone = true
		s.conn.queue(appendHeader(nil, recordEnd, 0), false)
	}
	s.mu.Unlock()
	if !again {
		s.settle()
	}
	return nil
}

// StreamID numbers the streams of the connection.
func (s *Stream) StreamID() quic.StreamID { return quic.StreamID(s.number) }

// SetReliableBoundary has nothing to do: a reset comes behind what was written.
func (s *Stream) SetReliableBoundary() {}

// CancelWrite aborts the direction that is written. A Write that waits for the other
// end to read is cut off, and the connection with it.
func (s *Stream) CancelWrite(code quic.StreamErrorCode) {
	s.mu.Lock()
	again := s.sentDone
	if !again {
		s.sendErr, s.sentDone, s.reset = streamError(uint64(code), false), true, true
		s.conn.queue(numbers(recordReset, uint64(code)), true)
	}
	s.mu.Unlock()
	if !again {
		s.settle()
	}
}

// SetReadDeadline is as in net.Conn.
func (s *Stream) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	cancelled := s.readErr != nil
	s.mu.Unlock()
	if cancelled {
		return nil
	}
	s.conn.mu.Lock()
	s.until = t
	s.conn.mu.Unlock()
	s.deadline(t)
	return nil
}

// SetWriteDeadline is as in net.Conn, but that a Write that has run into it ends the
// connection.
func (s *Stream) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sentDone {
		return nil
	}
	s.conn.pendingMu.Lock()
	defer s.conn.pendingMu.Unlock()
	return s.conn.meter.SetWriteDeadline(t)
}

// SetDeadline sets both.
func (s *Stream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}
