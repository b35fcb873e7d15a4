package accept

import (
	"errors"
	"net"
	"sync"
	"syscall"
)

// Conn is an accepted connection. Closing it gives its slot back.
type Conn struct {
	net.Conn
	once  sync.Once
	slots *Slots
}

// Close closes the connection.
func (c *Conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.slots.Release)
	return err
}

// CloseWrite sends FIN. A connection that cannot half-close (net.Pipe) is closed.
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

// reset ends c with RST.
func reset(c net.Conn) {
	if l, ok := c.(interface{ SetLinger(sec int) error }); ok {
		_ = l.SetLinger(0) // fails only on a connection that is gone
	}
	_ = c.Close() // the reset is the message
}
