package udpway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/gateway/accept"
	"github.com/isthmus-mesh/isthmus/gateway/account"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/datagram"
)

const (
	// DefaultFlowsPerSource is the flows of one source address: a resolver asks from a
	// thousand ports.
	DefaultFlowsPerSource = 1000
	// MaxIdleTimeout keeps the far end from forgetting a flow first.
	MaxIdleTimeout = datagram.FarIdleTimeout
	// queueDatagrams and queueBytes bound what waits for a flow's path.
	queueDatagrams = 128
	queueBytes     = 512 << 10
	// refusedFor is how long a flow that was refused is remembered.
	refusedFor = time.Second
	// quietFor is how long a flow must have been quiet to make room for another, or to be
	// ended when the gateway drains; among evictSample flows the quietest is looked for.
	quietFor    = datagram.QuietTime
	evictSample = 16
	// complainInterval is the least time between two lines in the log of what was dropped.
	complainInterval = time.Second
	// The back-off after a failed read is net/http's.
	minBackoff = 5 * time.Millisecond
	maxBackoff = time.Second
)

// The causes of the end of flows.
var (
	errClosed  = errors.New("the socket was closed")
	errEvicted = errors.New("it made room for another flow")
)

// Conn is a UDP socket; *net.UDPConn is one.
type Conn interface {
	ReadMsgUDPAddrPort(b, oob []byte) (n, oobn, flags int, addr netip.AddrPort, err error)
	WriteMsgUDPAddrPort(b, oob []byte, addr netip.AddrPort) (n, oobn int, err error)
	LocalAddr() net.Addr
	Close() error
}

// Target is where flows go.
type Target struct {
	Service catalog.ServiceName
	Port    string
	// Pin restricts them to one cluster.
	Pin catalog.ClusterName
}

// Options configure a Way. All fields but Sources, Idle, FlowsPerSource, Sample and Log are
// required.
type Options struct {
	// Caller is who every sender is taken for.
	Caller string
	// Sources are the ranges that may send; none means everyone.
	Sources []netip.Prefix
	// Slots bound the flows.
	Slots *accept.Slots
	// FlowsPerSource bounds the flows of one address; 0 is DefaultFlowsPerSource.
	FlowsPerSource int
	// Idle is the longest silence of a flow; 0 is datagram.DefaultIdleTimeout.
	Idle time.Duration

	Router  *attempt.Router
	Carrier *datagram.Carrier
	Account *account.Account
	// Sample decides which ordinary flows are kept to be explained; nil: none.
	Sample func() bool
	Log    *slog.Logger
}

// Way serves sockets.
type Way struct {
	o          Options
	stopping   chan struct{}
	stop       sync.Once
	complained atomic.Int64

	mu      sync.Mutex
	ctx     context.Context // of Run; nil before
	over    bool
	sockets map[*Socket]struct{}
	sources map[netip.Addr]int
	open    int
	flows   sync.WaitGroup
	readers sync.WaitGroup
}

// New returns a Way without sockets.
func New(o Options) (*Way, error) {
	if o.Caller == "" || o.Slots == nil || o.Router == nil || o.Carrier == nil || o.Account == nil {
		return nil, errors.New("udp way: an option is missing")
	}
	if o.FlowsPerSource == 0 {
		o.FlowsPerSource = DefaultFlowsPerSource
	}
	if o.Idle == 0 {
		o.Idle = datagram.DefaultIdleTimeout
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Way{o: o, stopping: make(chan struct{}), sockets: make(map[*Socket]struct{}), sources: make(map[netip.Addr]int)}, nil
}

// Listen takes a socket over: what it receives goes to target, as soon as the Way runs. One
// that comes too late is closed.
func (w *Way) Listen(conn Conn, target Target) *Socket {
	s := newSocket(w, conn, target)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		_ = conn.Close() // nothing was received
		return s
	}
	w.sockets[s] = struct{}{}
	if w.ctx != nil {
		w.readers.Go(s.read)
	}
	return s
}

// StopAccepting lets no more flows begin; those that are open go on until they are quiet. It
// is safe to call twice.
func (w *Way) StopAccepting() { w.stop.Do(func() { close(w.stopping) }) }

// Run serves until StopAccepting was called and the last flow has ended, or ctx has, which
// ends those that are left.
func (w *Way) Run(ctx context.Context) error {
	w.mu.Lock()
	w.ctx = ctx
	for s := range w.sockets {
		w.readers.Go(s.read)
	}
	w.mu.Unlock()
	select {
	case <-ctx.Done():
		w.StopAccepting()
	case <-w.stopping:
	}
	w.drain(ctx)
	w.mu.Lock()
	w.over = true
	for s := range w.sockets {
		_ = s.conn.Close() // what comes now was too late
	}
	clear(w.sockets)
	w.mu.Unlock()
	w.flows.Wait()
	w.readers.Wait()
	return nil
}

// drain ends the flows that have been quiet, until there is none or ctx ends.
func (w *Way) drain(ctx context.Context) {
	ticker := time.NewTicker(quietFor / 8)
	defer ticker.Stop()
	for w.quieten() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// quieten ends the flows that are quiet and returns how many are left.
func (w *Way) quieten() (left int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for s := range w.sockets {
		s.mu.Lock()
		for _, f := range s.flows {
			if f.quiet() >= quietFor {
				f.end(datagram.ErrIdle)
			}
		}
		s.mu.Unlock()
	}
	return w.open
}

func (w *Way) draining() bool {
	select {
	case <-w.stopping:
		return true
	default:
		return false
	}
}

// enter gives a flow its place: "" or the reason why there is none.
func (w *Way) enter(from netip.Addr) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.draining() || w.ctx == nil || w.ctx.Err() != nil:
		return datagram.DropDraining
	case w.sources[from] >= w.o.FlowsPerSource:
		return datagram.DropSourceFlows
	case !w.o.Slots.TryAcquire():
		return datagram.DropFlows
	}
	w.sources[from]++
	w.open++
	w.flows.Add(1)
	return ""
}

// leave gives it back.
func (w *Way) leave(from netip.Addr) {
	w.mu.Lock()
	w.open--
	if w.sources[from]--; w.sources[from] == 0 {
		delete(w.sources, from)
	}
	w.mu.Unlock()
	w.o.Slots.Release()
	w.flows.Done()
}

// drop counts a datagram that was dropped, and says so now and then where it means that a
// caller has no way in.
func (w *Way) drop(reason string, s *Socket, from netip.AddrPort) {
	w.o.Carrier.Metrics.Drop(account.WayUDP, reason)
	now := time.Now().UnixNano()
	last := w.complained.Load()
	if now-last >= int64(complainInterval) && w.complained.CompareAndSwap(last, now) {
		w.o.Account.Refuse(account.WayUDP, s.address, reason, from.String())
	}
}
