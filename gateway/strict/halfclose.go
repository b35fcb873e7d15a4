package strict

import (
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// hold keeps an EOF from the server while it answers a whole request.
type hold struct {
	mu      sync.Mutex
	wake    *sync.Cond
	active  bool
	expired bool // the read deadline has passed
}

// HoldEOF makes an end of the stream after a whole request wait until that is
// answered. The server must tell the connection's states by ConnState.
func (c *Conn) HoldEOF() {
	c.hold = new(hold)
	c.hold.wake = sync.NewCond(&c.hold.mu)
}

// ConnState is a hook for http.Server, needed for HoldEOF.
func ConnState(c net.Conn, s http.ConnState) {
	judged, ok := c.(*Conn)
	if !ok || judged.hold == nil {
		return
	}
	h := judged.hold
	h.mu.Lock()
	defer h.mu.Unlock()
	h.active = s == http.StateActive
	h.wake.Broadcast()
}

// wait returns io.EOF when no request is being answered any more. The server ends
// a pending read by a deadline in the past, which is obeyed.
func (h *hold) wait() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.active && !h.expired {
		h.wake.Wait()
	}
	if h.expired {
		return os.ErrDeadlineExceeded
	}
	return io.EOF
}

func (h *hold) deadline(t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.expired = !t.IsZero() && !t.After(time.Now())
	h.wake.Broadcast()
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	if c.hold != nil {
		c.hold.deadline(t)
	}
	return c.Conn.SetReadDeadline(t)
}

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	if c.hold != nil {
		c.hold.deadline(t)
	}
	return c.Conn.SetDeadline(t)
}

// Close implements net.Conn.
func (c *Conn) Close() error {
	if c.hold != nil {
		c.hold.deadline(time.Unix(1, 0))
	}
	return c.Conn.Close()
}
