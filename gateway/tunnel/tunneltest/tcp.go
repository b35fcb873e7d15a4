package tunneltest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// TCP is the TCP of the hosts beside the gateways as far as round trips go, for the fake clock, under which real
// sockets do not work: connecting takes a round trip (SYN, SYN-ACK), after which
// bytes take one way. There is no congestion, no loss and no window.
type TCP struct {
	// delay is one way of DialSlow; Dial has none (the same host).
	delay time.Duration

	cut atomic.Bool // what is sent over the distance arrives never

	mu        sync.Mutex
	listeners map[string]*tcpListener
	port      uint16
}

// NewTCP returns a network without listeners, whose DialSlow takes delay one way.
func NewTCP(delay time.Duration) *TCP {
	return &TCP{delay: delay, listeners: make(map[string]*tcpListener), port: 40000}
}

// Listen opens a listener on a port that is free, whatever is asked for.
func (m *TCP) Listen(_, _ string) (net.Listener, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.port++
	return m.listen(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1).To4(), Port: int(m.port)}), nil
}

// listenAt opens a listener at an address, in the place of one that was there.
func (m *TCP) listenAt(at *net.TCPAddr) net.Listener {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.listen(at)
}

func (m *TCP) listen(at *net.TCPAddr) net.Listener {
	l := &tcpListener{net: m, address: at, conns: make(chan net.Conn, 128), closed: make(chan struct{})}
	m.listeners[l.address.String()] = l
	return l
}

// Dial connects to a listener of the same host.
func (m *TCP) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return m.connect(ctx, network, address, 0)
}

// DialSlow dials over the distance.
func (m *TCP) DialSlow(ctx context.Context, network, address string) (net.Conn, error) {
	return m.connect(ctx, network, address, m.delay)
}

func (m *TCP) connect(ctx context.Context, _, address string, delay time.Duration) (net.Conn, error) {
	m.mu.Lock()
	l := m.listeners[address]
	m.mu.Unlock()
	if l == nil {
		return nil, syscall.ECONNREFUSED
	}
	if delay > 0 && m.cut.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	time.Sleep(2 * delay) // SYN and SYN-ACK
	there, back := newPipe(delay), newPipe(delay)
	if delay > 0 {
		there.cut, back.cut = &m.cut, &m.cut
	}
	near := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1).To4(), Port: 1}
	client := &tcpConn{in: back, out: there, local: near, remote: l.address}
	server := &tcpConn{in: there, out: back, local: l.address, remote: near}
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type tcpListener struct {
	net     *TCP
	address *net.TCPAddr
	conns   chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

func (l *tcpListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *tcpListener) Close() error {
	l.once.Do(func() {
		l.net.mu.Lock()
		if l.net.listeners[l.address.String()] == l {
			delete(l.net.listeners, l.address.String())
		}
		l.net.mu.Unlock()
		close(l.closed)
	})
	return nil
}

func (l *tcpListener) Addr() net.Addr { return l.address }

// tcpPipe is one direction of a connection.
type tcpPipe struct {
	delay time.Duration
	cut   *atomic.Bool // may be nil

	mu       sync.Mutex
	changed  *sync.Cond
	pieces   []tcpPiece
	fin      time.Time // when the EOF arrives; zero while open
	broken   error
	deadline time.Time
	timer    *time.Timer
}

type tcpPiece struct {
	at   time.Time
	data *bytes.Reader
}

func newPipe(delay time.Duration) *tcpPipe {
	p := &tcpPipe{delay: delay}
	p.changed = sync.NewCond(&p.mu)
	return p
}

// wakeAt wakes readers at a time.
func (p *tcpPipe) wakeAt(t time.Time) {
	time.AfterFunc(time.Until(t), p.changed.Broadcast)
}

func (p *tcpPipe) write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken != nil || !p.fin.IsZero() {
		return 0, errors.Join(p.broken, syscall.EPIPE)
	}
	if p.cut != nil && p.cut.Load() {
		return len(b), nil
	}
	at := time.Now().Add(p.delay)
	p.pieces = append(p.pieces, tcpPiece{at, bytes.NewReader(bytes.Clone(b))})
	p.wakeAt(at)
	return len(b), nil
}

func (p *tcpPipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		now := time.Now()
		switch {
		case p.broken != nil:
			return 0, p.broken
		case !p.deadline.IsZero() && !now.Before(p.deadline):
			return 0, os.ErrDeadlineExceeded
		case len(p.pieces) > 0 && !now.Before(p.pieces[0].at):
			n, _ := p.pieces[0].data.Read(b)
			if p.pieces[0].data.Len() == 0 {
				p.pieces = p.pieces[1:]
			}
			return n, nil
		case len(p.pieces) == 0 && !p.fin.IsZero() && !now.Before(p.fin):
			return 0, io.EOF
		}
		p.changed.Wait()
	}
}

func (p *tcpPipe) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fin.IsZero() {
		p.fin = time.Now().Add(p.delay)
		p.wakeAt(p.fin)
	}
}

func (p *tcpPipe) breakOff(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken == nil {
		p.broken = err
	}
	p.changed.Broadcast()
}

func (p *tcpPipe) setDeadline(t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deadline = t
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	if !t.IsZero() {
		p.timer = time.AfterFunc(time.Until(t), p.changed.Broadcast)
	}
}

// tcpConn is one end of a connection.
type tcpConn struct {
	in, out       *tcpPipe
	local, remote net.Addr
	linger        bool // SetLinger(0) was called
}

func (c *tcpConn) Read(b []byte) (int, error)  { return c.in.read(b) }
func (c *tcpConn) Write(b []byte) (int, error) { return c.out.write(b) }
func (c *tcpConn) CloseWrite() error           { c.out.close(); return nil }
func (c *tcpConn) SetLinger(seconds int) error { c.linger = seconds == 0; return nil }
func (c *tcpConn) LocalAddr() net.Addr         { return c.local }
func (c *tcpConn) RemoteAddr() net.Addr        { return c.remote }

func (c *tcpConn) Close() error {
	if c.linger {
		c.out.breakOff(syscall.ECONNRESET)
	}
	c.out.close()
	c.in.breakOff(net.ErrClosed)
	c.in.setDeadline(time.Time{})
	return nil
}

func (c *tcpConn) SetDeadline(t time.Time) error      { c.in.setDeadline(t); return nil }
func (c *tcpConn) SetReadDeadline(t time.Time) error  { c.in.setDeadline(t); return nil }
func (c *tcpConn) SetWriteDeadline(_ time.Time) error { return nil }
