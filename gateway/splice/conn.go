package splice

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// Conn is one end of a spliced pair. One goroutine reads while another writes;
// Reset and Close may come from any.
type Conn interface {
	io.Reader
	io.Writer
	// CloseWrite half-closes: the other end reads EOF after what was written.
	CloseWrite() error
	// Reset aborts both directions and unblocks a pending Read and Write. What
	// was written before stays deliverable where the carrier can do that.
	Reset(status wire.Status)
	// Close ends the connection in order. It is safe to call after Reset.
	Close() error
}

// TCPConn is a net.Conn as a Conn.
type TCPConn struct {
	net.Conn
	reset atomic.Bool
}

// TCP wraps c. A c without CloseWrite (net.Pipe) is closed instead of
// half-closed, one without SetLinger is closed instead of reset.
func TCP(c net.Conn) *TCPConn { return &TCPConn{Conn: c} }

// CloseWrite sends FIN.
func (c *TCPConn) CloseWrite() error {
	if hc, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return hc.CloseWrite()
	}
	return c.Conn.Close()
}

// Reset sends RST: SO_LINGER with zero seconds makes close abortive. The status
// has no place in TCP.
func (c *TCPConn) Reset(wire.Status) {
	if !c.reset.CompareAndSwap(false, true) {
		return
	}
	inner := c.Conn
	if t, ok := inner.(interface{ Inner() *tls.Conn }); ok { // an endpoint's (workload.Conn)
		inner = t.Inner()
	}
	if t, ok := inner.(*tls.Conn); ok {
		inner = t.NetConn() // past the close_notify that would say an orderly end
	}
	if l, ok := inner.(interface{ SetLinger(sec int) error }); ok {
		_ = l.SetLinger(0) // fails only on a connection that is already gone
	}
	_ = inner.Close() // the reset is the message; there is nobody to tell more
}

// statusError is a failure that knows its code.
type statusError interface {
	error
	Status() wire.Status
}

// statusOf is the code that tells the other end why this end failed.
func statusOf(err error) wire.Status {
	if e, ok := errors.AsType[*tunnel.ResetError](err); ok {
		return e.Status
	}
	if e, ok := errors.AsType[*tunnel.RefusedError](err); ok {
		return e.Status
	}
	if e, ok := errors.AsType[*tunnel.LinkError](err); ok {
		return e.Status
	}
	if e, ok := errors.AsType[statusError](err); ok {
		return e.Status()
	}
	return wire.Reset
}

// Routine reports whether err is how connections end every day (a peer that
// resets, a connection closed under a pending read), to be logged at debug.
func Routine(err error) bool {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) {
		return true
	}
	_, reset := errors.AsType[*tunnel.ResetError](err)
	return reset
}
