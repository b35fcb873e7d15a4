package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
)

// simNetwork is the network between gateways, simulated; with memory, the TCP of
// the hosts beside them too, so that everything runs on the fake clock.
type simNetwork struct {
	*tunneltest.Network
	memory *memoryTCP

	mu   sync.Mutex
	next byte
}

func newSim(path tunneltest.Path) *simNetwork {
	return &simNetwork{Network: tunneltest.NewNetwork(path, 1)}
}

// listenUDP gives each gateway a host of its own, as paths are between hosts.
func (s *simNetwork) listenUDP(at netip.AddrPort) net.PacketConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !at.IsValid() {
		s.next++
		at = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, s.next}), 7443)
	}
	return s.Listen(at)
}

func (s *simNetwork) resolve(_ context.Context, hostport string) (net.Addr, error) {
	a, err := netip.ParseAddrPort(hostport)
	if err != nil {
		return nil, err
	}
	return net.UDPAddrFromAddrPort(a), nil
}

// memoryTCP is TCP as far as round trips go, for the fake clock, under which real
// sockets do not work: connecting takes a round trip (SYN, SYN-ACK), after which
// bytes take one way. There is no congestion, no loss and no window.
type memoryTCP struct {
	// delay is one way of dialSlow; dial has none (the same host).
	delay time.Duration

	mu        sync.Mutex
	listeners map[string]*memoryListener
	port      uint16
}

func newMemoryTCP(delay time.Duration) *memoryTCP {
	return &memoryTCP{delay: delay, listeners: make(map[string]*memoryListener), port: 40000}
}

func (m *memoryTCP) listen(_, _ string) (net.Listener, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.port++
	l := &memoryListener{
		net: m, address: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1).To4(), Port: int(m.port)},
		conns: make(chan net.Conn, 128), closed: make(chan struct{}),
	}
	m.listeners[l.address.String()] = l
	return l, nil
}

func (m *memoryTCP) dial(ctx context.Context, network, address string) (net.Conn, error) {
	return m.connect(ctx, network, address, 0)
}

// dialSlow dials over the distance.
func (m *memoryTCP) dialSlow(ctx context.Context, network, address string) (net.Conn, error) {
	return m.connect(ctx, network, address, m.delay)
}

func (m *memoryTCP) connect(ctx context.Context, _, address string, delay time.Duration) (net.Conn, error) {
	m.mu.Lock()
	l := m.listeners[address]
	m.mu.Unlock()
	if l == nil {
		return nil, syscall.ECONNREFUSED
	}
	time.Sleep(2 * delay) // SYN and SYN-ACK
	there, back := newMemoryPipe(delay), newMemoryPipe(delay)
	near := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1).To4(), Port: 1}
	client := &memoryConn{in: back, out: there, local: near, remote: l.address}
	server := &memoryConn{in: there, out: back, local: l.address, remote: near}
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type memoryListener struct {
	net     *memoryTCP
	address *net.TCPAddr
	conns   chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() {
		l.net.mu.Lock()
		delete(l.net.listeners, l.address.String())
		l.net.mu.Unlock()
		close(l.closed)
	})
	return nil
}

func (l *memoryListener) Addr() net.Addr { return l.address }

// memoryPipe is one direction.
type memoryPipe struct {
	delay time.Duration

	mu       sync.Mutex
	changed  *sync.Cond
	pieces   []memoryPiece
	fin      time.Time // when the EOF arrives; zero while open
	broken   error
	deadline time.Time
	timer    *time.Timer
}

type memoryPiece struct {
	at   time.Time
	data *bytes.Reader
}

func newMemoryPipe(delay time.Duration) *memoryPipe {
	p := &memoryPipe{delay: delay}
	p.changed = sync.NewCond(&p.mu)
	return p
}

// at wakes readers at a time.
func (p *memoryPipe) wakeAt(t time.Time) {
	time.AfterFunc(time.Until(t), p.changed.Broadcast)
}

func (p *memoryPipe) write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken != nil || !p.fin.IsZero() {
		return 0, errors.Join(p.broken, syscall.EPIPE)
	}
	at := time.Now().Add(p.delay)
	p.pieces = append(p.pieces, memoryPiece{at, bytes.NewReader(bytes.Clone(b))})
	p.wakeAt(at)
	return len(b), nil
}

func (p *memoryPipe) read(b []byte) (int, error) {
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

func (p *memoryPipe) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fin.IsZero() {
		p.fin = time.Now().Add(p.delay)
		p.wakeAt(p.fin)
	}
}

func (p *memoryPipe) breakOff(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken == nil {
		p.broken = err
	}
	p.changed.Broadcast()
}

func (p *memoryPipe) setDeadline(t time.Time) {
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

// memoryConn is one end of a connection.
type memoryConn struct {
	in, out       *memoryPipe
	local, remote net.Addr
	linger        bool // SetLinger(0) was called
}

func (c *memoryConn) Read(b []byte) (int, error)  { return c.in.read(b) }
func (c *memoryConn) Write(b []byte) (int, error) { return c.out.write(b) }
func (c *memoryConn) CloseWrite() error           { c.out.close(); return nil }
func (c *memoryConn) SetLinger(seconds int) error { c.linger = seconds == 0; return nil }
func (c *memoryConn) LocalAddr() net.Addr         { return c.local }
func (c *memoryConn) RemoteAddr() net.Addr        { return c.remote }

func (c *memoryConn) Close() error {
	if c.linger {
		c.out.breakOff(syscall.ECONNRESET)
	}
	c.out.close()
	c.in.breakOff(net.ErrClosed)
	c.in.setDeadline(time.Time{})
	return nil
}

func (c *memoryConn) SetDeadline(t time.Time) error      { c.in.setDeadline(t); return nil }
func (c *memoryConn) SetReadDeadline(t time.Time) error  { c.in.setDeadline(t); return nil }
func (c *memoryConn) SetWriteDeadline(_ time.Time) error { return nil }
