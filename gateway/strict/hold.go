package strict

import (
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// hold keeps bad news about a connection from its server while that answers a
// whole request.
type hold struct {
	mu      sync.Mutex
	wake    *sync.Cond
	active  bool
	expired bool // the read deadline has passed
}

func (h *hold) init() { h.wake = sync.NewCond(&h.mu) }

// ConnState is a hook for http.Server, by which a Conn knows what is answered.
func ConnState(c net.Conn, s http.ConnState) {
	judged, ok := c.(*Conn)
	if !ok {
		return
	}
	h := &judged.hold
	h.mu.Lock()
	defer h.mu.Unlock()
	h.active = s == http.StateActive
	h.wake.Broadcast()
}

// wait returns nil when no request is being answered any more. The server ends a
// pending read by a deadline in the past, which is obeyed.
func (h *hold) wait() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.active && !h.expired {
		h.wake.Wait()
	}
	if h.active && h.expired {
		return os.ErrDeadlineExceeded
	}
	return nil
}

func (h *hold) deadline(t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.expired = !t.IsZero() && !t.After(time.Now())
	h.wake.Broadcast()
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.hold.deadline(t)
	return c.Conn.SetReadDeadline(t)
}

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	c.hold.deadline(t)
	return c.Conn.SetDeadline(t)
}

// Close implements net.Conn.
func (c *Conn) Close() error {
	c.hold.deadline(time.Unix(1, 0))
	return c.Conn.Close()
}
