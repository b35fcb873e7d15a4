package strict

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
)

// Listener gives Conns.
type Listener struct {
	net.Listener
	// MaxHead bounds a request's head in bytes.
	MaxHead int
	// HalfClose lets callers close their side before the answer, see
	// Conn.HoldEOF.
	HalfClose bool
}

// Accept returns the next connection, a *Conn.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	judged := NewConn(c, l.MaxHead)
	if l.HalfClose {
		judged.HoldEOF()
	}
	return judged, nil
}

// Conn is a server's side of a connection.
type Conn struct {
	net.Conn
	framing  framing
	err      error
	released atomic.Bool
	hold     *hold
}

// NewConn judges what is read from c.
func NewConn(c net.Conn, maxHead int) *Conn {
	return &Conn{Conn: c, framing: framing{maxHead: maxHead}}
}

// NetConn is the connection behind.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// Release ends the judging: what follows is another protocol's. It is called
// between two requests, after the connection was taken over from the server.
func (c *Conn) Release() { c.released.Store(true) }

// Read returns the bytes before the first that is not strict, then *Error.
func (c *Conn) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.Conn.Read(p)
	if c.released.Load() {
		return n, err
	}
	if n == 0 {
		if c.hold != nil && errors.Is(err, io.EOF) && c.framing.between() {
			return 0, c.hold.wait()
		}
		return 0, err
	}
	good, violation := c.framing.follow(p[:n])
	if violation != nil {
		c.err = violation
		if good == 0 {
			return 0, violation
		}
		return good, nil
	}
	if c.hold != nil {
		// An EOF that comes with the last bytes is held like one that comes after.
		return n, nil
	}
	return n, err
}

// CloseWrite sends FIN.
func (c *Conn) CloseWrite() error {
	if hc, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return hc.CloseWrite()
	}
	return c.Close()
}

// SetLinger is net.TCPConn's; on other connections it does nothing.
func (c *Conn) SetLinger(seconds int) error {
	if l, ok := c.Conn.(interface{ SetLinger(sec int) error }); ok {
		return l.SetLinger(seconds)
	}
	return nil
}

// SyscallConn is net.TCPConn's; other connections have none.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	if sc, ok := c.Conn.(syscall.Conn); ok {
		return sc.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// Error says what was not strict. It never repeats what was sent.
type Error struct{ Rule string }

// Error implements error.
func (e *Error) Error() string { return "http/1 request is not strict: " + e.Rule }
