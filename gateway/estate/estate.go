package estate

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel/generation"
	"github.com/isthmus-mesh/isthmus/internal/handover"
)

// Subject is whose estate it is. Another gateway, or another link port, inherits
// nothing.
type Subject struct {
	Cluster string `json:"cluster"`
	Gateway string `json:"gateway"`
	// Link is the address of the link port as it is configured.
	Link string `json:"link"`
}

// state is what a successor is told beside the files.
type state struct {
	Subject    Subject `json:"subject"`
	Generation int     `json:"generation"` // of the predecessor
	// Slot is the successor's; Live has its, and those of all before it.
	Slot   generation.Slot `json:"slot"`
	Live   generation.Live `json:"live"`
	Before []ancestor      `json:"before"`
	// Linked are the clusters to which the predecessor has a link.
	Linked []string `json:"linked"`
}

type ancestor struct {
	Generation int             `json:"generation"`
	Slot       generation.Slot `json:"slot"`
}

// The names of files.
const (
	socketName = "link" // one a slot, in order
	pulseName  = "pulse"
)

// Estate is what one process of a gateway has. It is safe for concurrent use.
type Estate struct {
	subject     Subject
	inheritance *handover.Inheritance // nil in the first process
	generation  int
	slot        generation.Slot
	linked      []string
	pulse       *handover.Pulse // nil where there are no successors

	mu      sync.Mutex
	sockets []int // of the link port, by slot; descriptors, so that nothing waits for them
	live    generation.Live
	newest  generation.Slot
	before  []*Predecessor
	open    map[*opened]struct{}
	stop    chan struct{} // ends the watching of predecessors; nil while nobody watches
	wg      sync.WaitGroup
}

// opened is something that a successor is handed.
type opened struct {
	name string
	file func() (*os.File, error)
}

// New is the estate of a first process.
func New(s Subject) *Estate {
	e := &Estate{subject: s, generation: 1, live: generation.Live(0).With(0), open: make(map[*opened]struct{})}
	e.pulse, _ = handover.NewPulse() // without it there is no successor: Offer says so
	return e
}

// Inherit is the estate that a predecessor has handed over, of the same subject.
func Inherit(s Subject, i *handover.Inheritance) (*Estate, error) {
	var st state
	if err := i.State(&st); err != nil {
		return nil, fmt.Errorf("what the predecessor says: %w", err)
	}
	for _, f := range []struct{ field, have, want string }{
		{"cluster.name", s.Cluster, st.Subject.Cluster},
		{"gateway.name", s.Gateway, st.Subject.Gateway},
		{"gateway.listen.link", s.Link, st.Subject.Link},
	} {
		if f.have != f.want {
			return nil, fmt.Errorf("%s: %q: must be %q, as it was, in an upgrade in place; restart the gateway to change it", f.field, f.have, f.want)
		}
	}
	e := New(s)
	e.inheritance, e.generation, e.slot, e.live, e.linked = i, st.Generation+1, st.Slot, st.Live, st.Linked
	for fd, ok := i.Take(socketName); ok; fd, ok = i.Take(socketName) {
		e.sockets = append(e.sockets, fd)
	}
	for _, a := range st.Before {
		fd, ok := i.Take(pulseName)
		if !ok {
			return nil, errMismatch
		}
		e.before = append(e.before, &Predecessor{Generation: a.Generation, slot: a.Slot, far: os.NewFile(uintptr(fd), pulseName)})
	}
	if int(e.slot) >= len(e.sockets) || len(e.before) == 0 {
		return nil, errMismatch
	}
	e.newest = e.before[len(e.before)-1].slot
	return e, nil
}

var errMismatch = errors.New("what the predecessor says does not fit what it hands over")

// Generation counts the processes of this gateway, from 1.
func (e *Estate) Generation() int { return e.generation }

// Slot is this process's among those that share the link port.
func (e *Estate) Slot() generation.Slot { return e.slot }

// Inherited reports whether there was a process before.
func (e *Estate) Inherited() bool { return e.inheritance != nil }

// Linked are the clusters to which the process before had a link.
func (e *Estate) Linked() []string { return e.linked }

// Handover is the word with the process before; nil without one.
func (e *Estate) Handover() *handover.Inheritance { return e.inheritance }

// Link opens the link port.
func (e *Estate) Link() (*net.UDPConn, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.inheritance == nil {
		conn, err := generation.First(e.subject.Link)
		if err != nil {
			return nil, err
		}
		fd, err := duplicate(conn) // stays open when the port is closed: its place is taken
		if err != nil {
			_ = conn.Close() // nobody knows of it
			return nil, err
		}
		e.sockets = []int{fd}
		return conn, nil
	}
	return udp(e.sockets[e.slot])
}

// Listen returns open with what was inherited in its place, and hands on what it opens
// until that is closed.
func (e *Estate) Listen(open func(network, address string) (net.Listener, error)) func(network, address string) (net.Listener, error) {
	return func(network, address string) (net.Listener, error) {
		name := network + " " + address
		l, err := e.inheritListener(name)
		if l == nil && err == nil {
			l, err = open(network, address)
		}
		if err != nil {
			return nil, err
		}
		with, ok := l.(interface{ File() (*os.File, error) })
		if !ok {
			return l, nil // of no host: nothing to hand on
		}
		return &listener{Listener: l, release: e.keep(name, with.File)}, nil
	}
}

func (e *Estate) inheritListener(name string) (net.Listener, error) {
	if e.inheritance == nil {
		return nil, nil
	}
	fd, ok := e.inheritance.Take(name)
	if !ok {
		return nil, nil
	}
	f := os.NewFile(uintptr(fd), name)
	defer func() { _ = f.Close() }() // the listener has its own descriptor
	return net.FileListener(f)
}

// ListenUDP opens a UDP socket that every process may read from, since what comes is
// answered at once: one that was inherited, or a new one.
func (e *Estate) ListenUDP(address *net.UDPAddr) (net.PacketConn, error) {
	name := "udp " + address.String()
	if e.inheritance != nil {
		if fd, ok := e.inheritance.Take(name); ok {
			defer closeDescriptor(fd)
			conn, err := udp(fd)
			if err == nil {
				e.keep(name, conn.File)
			}
			return conn, err
		}
	}
	conn, err := net.ListenUDP("udp", address)
	if err != nil {
		return nil, err
	}
	e.keep(name, conn.File)
	return conn, nil
}

// keep hands on something until it is released.
func (e *Estate) keep(name string, file func() (*os.File, error)) (release func()) {
	o := &opened{name: name, file: file}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.open[o] = struct{}{}
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.open, o)
	}
}

// listener is handed on until it is closed.
type listener struct {
	net.Listener
	release func()
}

func (l *listener) Close() error {
	l.release()
	return l.Listener.Close()
}

// Close closes what keeps the place of this process's sockets, and what was inherited
// and of no use. Nothing is served any more.
func (e *Estate) Close() {
	e.unwatch()
	if e.inheritance != nil {
		e.inheritance.Close()
	}
	if e.pulse != nil {
		e.pulse.Close()
		_ = e.pulse.Far().Close() // successors have their own
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, fd := range e.sockets {
		closeDescriptor(fd)
	}
	e.sockets = nil
}
