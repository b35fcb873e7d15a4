package tunneltest

import (
	"cmp"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go/testutils/simnet"
)

// Path is one direction between two hosts.
type Path struct {
	// Delay is the time a packet takes; Jitter is added to it, uniformly from
	// [0, Jitter), so that packets overtake each other.
	Delay, Jitter time.Duration
	// Loss is the share of packets that vanish, 0 to 1.
	Loss float64
	// Rate is what the path carries, in bytes per second; 0 is without limit. What
	// does not fit waits, at most Queue (0: DefaultQueue), and is dropped beyond.
	Rate  float64
	Queue time.Duration
	// Cut swallows everything.
	Cut bool
	// Held is until when the path stands still: what is sent before sets out then.
	Held time.Time
}

// DefaultQueue is how long a packet waits at most for a path with a Rate.
const DefaultQueue = 100 * time.Millisecond

// Network is a simulated packet network. Every host reaches every other over the
// default path unless another one is set. It is deterministic for a seed as far
// as the senders are.
type Network struct {
	mu      sync.Mutex
	random  *rand.Rand
	initial Path
	paths   map[[2]netip.Addr]Path
	free    map[[2]netip.Addr]time.Time // when a path with a rate has sent what it has
	stopped map[netip.Addr][]held
	inboxes map[netip.AddrPort]*inbox
	next    uint16
	closed  bool
	sent    int
}

// NewNetwork returns a network whose paths are all as given.
func NewNetwork(p Path, seed uint64) *Network {
	return &Network{
		random:  rand.New(rand.NewPCG(seed, 0)),
		initial: p,
		paths:   make(map[[2]netip.Addr]Path),
		free:    make(map[[2]netip.Addr]time.Time),
		stopped: make(map[netip.Addr][]held),
		inboxes: make(map[netip.AddrPort]*inbox),
		next:    7443,
	}
}

// SetPath changes the path from one host to another, in this direction only.
// Packets under way arrive as they would have.
func (n *Network) SetPath(from, to netip.Addr, p Path) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.paths[[2]netip.Addr{from, to}] = p
}

// Path returns the path from one host to another.
func (n *Network) Path(from, to netip.Addr) Path {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.path(from, to)
}

func (n *Network) path(from, to netip.Addr) Path {
	if p, ok := n.paths[[2]netip.Addr{from, to}]; ok {
		return p
	}
	return n.initial
}

// held is a packet that waits in the socket of a host that stands still.
type held struct {
	packet simnet.Packet
	box    *inbox
}

// maxHeld is how many packets the socket of a host that stands still keeps: as many
// as Linux does by default (212,992 bytes, and 1280 of each packet).
const maxHeld = 166

// Stop makes a host stand still, as SIGSTOP does its process: it sends nothing,
// and what comes waits in its socket, as far as there is room. Its clock goes on.
func (n *Network) Stop(host netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stopped[host] = []held{}
}

// Resume lets a host that was stopped go on.
func (n *Network) Resume(host netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, h := range n.stopped[host] {
		h.box.put(h.packet, time.Now())
	}
	delete(n.stopped, host)
}

// Packets counts the packets sent so far, lost ones included.
func (n *Network) Packets() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sent
}

// Listen opens a socket at addr, taking the place of one that was there: as a new
// process does after a crash.
func (n *Network) Listen(addr netip.AddrPort) net.PacketConn {
	conn := simnet.NewBlockingSimConn(net.UDPAddrFromAddrPort(addr), (*router)(n))
	box := newInbox(conn)
	n.mu.Lock()
	defer n.mu.Unlock()
	if old := n.inboxes[addr]; old != nil {
		old.close()
	}
	n.inboxes[addr] = box
	return &socket{SimConn: conn, network: n, addr: addr, box: box}
}

// Close ends all deliveries.
func (n *Network) Close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	for addr, box := range n.inboxes {
		box.close()
		delete(n.inboxes, addr)
	}
}

// router is the Network as its sockets see it.
type router Network

// AddNode implements simnet.Router; Listen does the work.
func (r *router) AddNode(net.Addr, simnet.PacketReceiver) {}

// SendPacket implements simnet.Router. As on a real network, a packet to nobody
// is not an error.
func (r *router) SendPacket(p simnet.Packet) error {
	n := (*Network)(r)
	from, to := addrPort(p.From), addrPort(p.To)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sent++
	path := n.path(from.Addr(), to.Addr())
	box := n.inboxes[to]
	if box == nil || path.Cut || path.Loss > 0 && n.random.Float64() < path.Loss {
		return nil
	}
	if _, still := n.stopped[from.Addr()]; still {
		return nil
	}
	if waiting, still := n.stopped[to.Addr()]; still {
		if len(waiting) < maxHeld {
			n.stopped[to.Addr()] = append(waiting, held{p, box})
		}
		return nil
	}
	delay := path.Delay + max(0, time.Until(path.Held))
	if path.Jitter > 0 {
		delay += time.Duration(n.random.Int64N(int64(path.Jitter)))
	}
	at := time.Now()
	if path.Rate > 0 {
		way := [2]netip.Addr{from.Addr(), to.Addr()}
		if free := n.free[way]; free.After(at) {
			if free.Sub(at) > cmp.Or(path.Queue, DefaultQueue) {
				return nil
			}
			at = free
		}
		at = at.Add(time.Duration(float64(len(p.Data)) / path.Rate * float64(time.Second)))
		n.free[way] = at
	}
	box.put(p, at.Add(delay))
	return nil
}

func addrPort(a net.Addr) netip.AddrPort {
	u := a.(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(u.Addr().Unmap(), u.Port())
}

// socket removes itself from the network when closed.
type socket struct {
	*simnet.SimConn
	network *Network
	addr    netip.AddrPort
	box     *inbox
}

// Close implements net.PacketConn.
func (s *socket) Close() error {
	s.network.mu.Lock()
	if s.network.inboxes[s.addr] == s.box {
		delete(s.network.inboxes, s.addr)
	}
	s.network.mu.Unlock()
	s.box.close()
	return s.SimConn.Close()
}

// HostPort is the address of the n-th host of a simulated network; gateways have
// the first ones.
func HostPort(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), 7443)
}

// UDPAddr is addr as quic wants it.
func UDPAddr(addr netip.AddrPort) net.Addr { return net.UDPAddrFromAddrPort(addr) }
