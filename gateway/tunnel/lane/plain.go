package lane

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
)

// Plain gives the connection away, for another protocol than records. Its end must
// still be said with CloseWithError.
func (c *Conn) Plain() net.Conn {
	c.plain.Store(true)
	return &plain{Conn: c.tls, conn: c}
}

// plain tells the Conn that it has ended. It hides that it is TLS from who would make
// something of that.
type plain struct {
	net.Conn
	conn *Conn
}

// Of returns the Conn that a connection of Plain is of.
func Of(c net.Conn) (*Conn, bool) {
	p, ok := c.(*plain)
	if !ok {
		return nil, false
	}
	return p.conn, true
}

// Read implements io.Reader.
func (p *plain) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		p.conn.fail(err)
	}
	return n, err
}

// Close implements net.Conn.
func (p *plain) Close() error {
	p.conn.fail(net.ErrClosed)
	return nil
}

// meter counts what goes through a connection.
type meter struct {
	net.Conn
	sent, received, writes, reads atomic.Uint64
}

// Read implements io.Reader.
func (m *meter) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	if n > 0 {
		m.received.Add(uint64(n))
		m.reads.Add(1)
	}
	return n, err
}

// Write implements io.Writer.
func (m *meter) Write(p []byte) (int, error) {
	n, err := m.Conn.Write(p)
	m.sent.Add(uint64(n))
	m.writes.Add(1)
	return n, err
}
