package virtual

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// DefaultSockets bounds the sockets of a Hub: services times their ports.
	DefaultSockets = 10_000
	// The back-off after a failed accept is net/http's.
	minBackoff = 5 * time.Millisecond
	maxBackoff = time.Second
)

// ErrTooMany means that the hub has as many sockets as it may.
var ErrTooMany = errors.New("too many virtual listeners")

// Port is a number of TCP or of UDP.
type Port struct {
	Number uint16
	UDP    bool
}

// Target is where connections to an address and port go.
type Target struct {
	Key
	// Port is a port's name.
	Port string
}

// Flows serves a socket of UDP.
type Flows interface {
	// Retarget has flows that begin from now on go elsewhere.
	Retarget(t Target)
	// Close closes the socket.
	Close() error
}

// HubOptions configure a Hub.
type HubOptions struct {
	// Range is what the hub says that it listens on.
	Range netip.Prefix
	// Listen opens sockets; nil is Listen of this package.
	Listen func(network, address string) (net.Listener, error)
	// Packets takes over sockets of UDP; nil: there are none, and Set passes over their ports.
	Packets func(conn *net.UDPConn, t Target) Flows
	// Sockets bounds them; 0 is DefaultSockets.
	Sockets int
	// Log receives failures to accept; nil discards them.
	Log *slog.Logger
}

// Hub is the listener of all virtual addresses.
type Hub struct {
	o        HubOptions
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once
	wg       sync.WaitGroup

	mu   sync.RWMutex
	open map[netip.Addr]map[Port]*socket
	n    int
}

// socket is one address and port.
type socket struct {
	target Target
	// close ends it; flows are those of UDP.
	close func() error
	flows Flows
}

// NewHub returns a Hub without addresses.
func NewHub(o HubOptions) *Hub {
	if o.Listen == nil {
		o.Listen = Listen
	}
	if o.Sockets == 0 {
		o.Sockets = DefaultSockets
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Hub{o: o, accepted: make(chan net.Conn), closed: make(chan struct{}), open: map[netip.Addr]map[Port]*socket{}}
}

// Set makes ports what is listened on at an address: those that are new are bound
// when it returns, those that are not in ports are closed. Without ports nothing is
// left of the address. Connections go on either way. The error is of the first port
// that cannot be bound; the others are served.
func (h *Hub) Set(a netip.Addr, ports map[Port]Target) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.isClosed() {
		return net.ErrClosed
	}
	have := h.open[a]
	for port, s := range have {
		if _, kept := ports[port]; !kept {
			_ = s.close() // no more is wanted of it
			delete(have, port)
			h.n--
		}
	}
	var failed error
	for port, target := range ports {
		if port.UDP && h.o.Packets == nil {
			continue
		}
		if s := have[port]; s != nil {
			if s.flows != nil && s.target != target {
				s.flows.Retarget(target)
			}
			s.target = target
			continue
		}
		s, err := h.bind(netip.AddrPortFrom(a, port.Number), port.UDP, target)
		if err != nil {
			if failed == nil {
				failed = err
			}
			continue
		}
		if have == nil {
			have = make(map[Port]*socket, len(ports))
			h.open[a] = have
		}
		have[port] = s
		h.n++
	}
	if len(have) == 0 {
		delete(h.open, a)
	}
	return failed
}

// bind opens a socket and begins to accept on it. mu is held.
func (h *Hub) bind(at netip.AddrPort, udp bool, target Target) (*socket, error) {
	if h.n >= h.o.Sockets {
		return nil, fmt.Errorf("%w: %d", ErrTooMany, h.n)
	}
	if udp {
		conn, err := ListenPacket(at)
		if err != nil {
			return nil, fmt.Errorf("virtual address of %s: %w", target.Key, err)
		}
		flows := h.o.Packets(conn, target)
		return &socket{target: target, close: flows.Close, flows: flows}, nil
	}
	l, err := h.o.Listen("tcp", at.String())
	if err != nil {
		return nil, fmt.Errorf("virtual address of %s: %w", target.Key, err)
	}
	s := &socket{target: target, close: l.Close}
	h.wg.Go(func() { h.serve(l) })
	return s, nil
}

// serve hands on what a socket accepts until it is closed.
func (h *Hub) serve(l net.Listener) {
	backoff := minBackoff
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			h.o.Log.Warn("accept failed", "listener", l.Addr().String(), "err", err, "duration", backoff)
			if !h.wait(backoff) {
				return
			}
			backoff = min(2*backoff, maxBackoff)
			continue
		}
		backoff = minBackoff
		select {
		case h.accepted <- c:
		case <-h.closed:
			_ = c.Close() // it was too late
			return
		}
	}
}

func (h *Hub) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-h.closed:
		return false
	}
}

// Find is where a connection goes that came in at a local address.
func (h *Hub) Find(local net.Addr) (Target, bool) {
	tcp, ok := local.(*net.TCPAddr)
	if !ok {
		return Target{}, false
	}
	at := tcp.AddrPort()
	h.mu.RLock()
	defer h.mu.RUnlock()
	s, ok := h.open[at.Addr().Unmap()][Port{Number: at.Port()}]
	if !ok {
		return Target{}, false
	}
	return s.target, true
}

// Listens reports whether any port of the address is listened on for k.
func (h *Hub) Listens(k Key, a netip.Addr) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, s := range h.open[a] {
		return s.target.Key == k
	}
	return false
}

// Addresses are those that are listened on.
func (h *Hub) Addresses() []netip.Addr {
	h.mu.RLock()
	defer h.mu.RUnlock()
	all := make([]netip.Addr, 0, len(h.open))
	for a := range h.open {
		all = append(all, a)
	}
	return all
}

// Sockets is how many are open.
func (h *Hub) Sockets() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.n
}

// Accept implements net.Listener. It fails only after Close.
func (h *Hub) Accept() (net.Conn, error) {
	select {
	case c := <-h.accepted:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close closes every socket, and waits until none accepts. Connections go on.
func (h *Hub) Close() error {
	h.once.Do(func() {
		h.mu.Lock()
		close(h.closed)
		for _, ports := range h.open {
			for _, s := range ports {
				if s.flows == nil { // those of UDP go on, as connections do
					_ = s.close() // nothing was accepted that could be lost
				}
			}
		}
		clear(h.open)
		h.n = 0
		h.mu.Unlock()
		h.wg.Wait()
	})
	return nil
}

func (h *Hub) isClosed() bool {
	select {
	case <-h.closed:
		return true
	default:
		return false
	}
}

// Addr is the range, which is no address that can be dialed.
func (h *Hub) Addr() net.Addr { return rangeAddr(h.o.Range) }

type rangeAddr netip.Prefix

func (rangeAddr) Network() string  { return "tcp" }
func (r rangeAddr) String() string { return netip.Prefix(r).String() }
