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
	// Options.HalfClose.
	HalfClose bool
	// Refused, if not nil, is told of every connection that Options.Refused is
	// told of.
	Refused func(from net.Addr, e *Error)
}

// Accept returns the next connection, a *Conn.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	o := Options{MaxHead: l.MaxHead, HalfClose: l.HalfClose}
	if l.Refused != nil {
		o.Refused = func(e *Error) { l.Refused(c.RemoteAddr(), e) }
	}
	return NewConn(c, o), nil
}

// Options configure a Conn.
type Options struct {
	// MaxHead bounds a request's head in bytes.
	MaxHead int
	// HalfClose makes an end of the stream after a whole request wait until that is
	// answered. The server must tell the connection's states by ConnState.
	HalfClose bool
	// Refused, if not nil, is told once of a head that is not strict: the server
	// answers that by itself, and no handler hears of it. What is not strict in a
	// body is an error of the body's.
	Refused func(*Error)
}

// Conn is a server's side of a connection.
type Conn struct {
	net.Conn
	framing   framing
	err       error
	released  atomic.Bool
	halfClose bool
	refused   func(*Error)
	hold      hold
}

// NewConn judges what is read from c.
func NewConn(c net.Conn, o Options) *Conn {
	judged := &Conn{Conn: c, framing: framing{maxHead: o.MaxHead}, halfClose: o.HalfClose, refused: o.Refused}
	judged.hold.init()
	return judged
}

// NetConn is the connection behind.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// Release ends the judging: what follows is another protocol's. It is called
// between two requests, after the connection was taken over from the server.
func (c *Conn) Release() { c.released.Store(true) }

// Read returns the bytes before the first that is not strict, then *Error. Where
// that byte belongs to a request behind one that is being answered, the error waits
// for the answer, as net/http takes any failure to read for a caller that has gone.
func (c *Conn) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.judged()
	}
	n, err := c.Conn.Read(p)
	if c.released.Load() {
		return n, err
	}
	if n == 0 {
		if c.halfClose && errors.Is(err, io.EOF) && c.framing.between() {
			if waited := c.hold.wait(); waited != nil {
				return 0, waited
			}
		}
		return 0, err
	}
	good, violation := c.framing.follow(p[:n])
	if violation != nil {
		c.err = violation
		if e, ok := errors.AsType[*Error](violation); ok && c.refused != nil && c.framing.inHead() {
			c.refused(e)
		}
		if good == 0 {
			return 0, c.judged()
		}
		return good, nil
	}
	if c.halfClose {
		// An EOF that comes with the last bytes is held like one that comes after.
		return n, nil
	}
	return n, err
}

// judged is the violation, in time.
func (c *Conn) judged() error {
	if c.framing.inHead() {
		if waited := c.hold.wait(); waited != nil {
			return waited
		}
	}
	return c.err
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
