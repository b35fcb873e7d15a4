package splice

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// PipeBuffer is how many bytes a direction of a Pipe holds before its writer waits.
const PipeBuffer = 64 << 10

// PipeConn is one end of a Pipe. It is a Conn.
type PipeConn struct{ in, out *pipeHalf }

// Pipe returns two connected ends in this process: what is written to one is read
// from the other, with half-close, reset and deadlines. Each direction buffers, as
// a socket does, so that both ends may write before they read.
func Pipe() (a, b *PipeConn) {
	toA, toB := newPipeHalf(), newPipeHalf()
	return &PipeConn{in: toA, out: toB}, &PipeConn{in: toB, out: toA}
}

// Read implements io.Reader. After a Reset of either end it fails with
// *tunnel.ResetError.
func (c *PipeConn) Read(p []byte) (int, error) { return c.in.read(p) }

// Write implements io.Writer.
func (c *PipeConn) Write(p []byte) (int, error) { return c.out.write(p) }

// CloseWrite half-closes: the other end reads EOF after what was written.
func (c *PipeConn) CloseWrite() error {
	c.out.end(io.EOF, false)
	return nil
}

// Reset aborts both directions of both ends, with what is still in them.
func (c *PipeConn) Reset(status wire.Status) {
	err := &tunnel.ResetError{Status: status, Remote: true}
	c.out.end(err, true)
	c.in.end(err, true)
}

// Close ends the connection: what was written is still read at the other end, what
// that writes is refused.
func (c *PipeConn) Close() error {
	c.out.end(io.EOF, false)
	c.in.end(io.ErrClosedPipe, true)
	return nil
}

// SetReadDeadline is as in net.Conn.
func (c *PipeConn) SetReadDeadline(t time.Time) error {
	c.in.readBy.set(c.in, t)
	return nil
}

// SetWriteDeadline is as in net.Conn.
func (c *PipeConn) SetWriteDeadline(t time.Time) error {
	c.out.writeBy.set(c.out, t)
	return nil
}

// pipeHalf is one direction.
type pipeHalf struct {
	mu      sync.Mutex
	changed *sync.Cond
	data    []byte
	ended   error // what the reader gets after the data
	readBy  pipeDeadline
	writeBy pipeDeadline
}

func newPipeHalf() *pipeHalf {
	h := new(pipeHalf)
	h.changed = sync.NewCond(&h.mu)
	return h
}

// end ends the direction, once; drop throws away what was not read.
func (h *pipeHalf) end(err error, drop bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended == nil || (drop && errors.Is(h.ended, io.EOF)) {
		h.ended = err
	}
	if drop {
		h.data = nil
	}
	h.changed.Broadcast()
}

func (h *pipeHalf) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.readBy.passed():
			return 0, os.ErrDeadlineExceeded
		case len(h.data) > 0:
			n := copy(p, h.data)
			if h.data = h.data[n:]; len(h.data) == 0 {
				h.data = nil // an idle pipe holds no memory
			}
			h.changed.Broadcast()
			return n, nil
		case h.ended != nil:
			return 0, h.ended
		}
		h.changed.Wait()
	}
}

func (h *pipeHalf) write(p []byte) (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(p) > 0 {
		room := PipeBuffer - len(h.data)
		switch {
		case h.ended != nil:
			if errors.Is(h.ended, io.EOF) {
				return n, io.ErrClosedPipe
			}
			return n, h.ended
		case h.writeBy.passed():
			return n, os.ErrDeadlineExceeded
		case room <= 0:
			h.changed.Wait()
			continue
		}
		chunk := p[:min(room, len(p))]
		h.data = append(h.data, chunk...)
		n, p = n+len(chunk), p[len(chunk):]
		h.changed.Broadcast()
	}
	return n, nil
}

// pipeDeadline wakes who waits when it passes.
type pipeDeadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *pipeDeadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (d *pipeDeadline) set(h *pipeHalf, t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d.at = t
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if !t.IsZero() {
		d.timer = time.AfterFunc(time.Until(t), h.changed.Broadcast)
	}
}
