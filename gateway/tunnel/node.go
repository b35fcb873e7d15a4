package tunnel

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel/generation"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// Node is this gateway's end of all its links. It owns one QUIC transport that
// both listens and dials.
type Node struct {
	o         Options
	log       *slog.Logger
	metrics   *metrics
	instance  wire.ID // of this process
	windows   *windows
	gate      *gate
	joins     *joins
	transport *quic.Transport
	config    *quic.Config

	// server serves requests on connections that peers dialed; callbackServer on
	// those that we dialed for a peer to call back. The second never sends GOAWAY:
	// its stream numbers would be of the wrong parity for HTTP/3's check.
	server, callbackServer *http3.Server
	client                 *http3.Transport
	// laneServer serves requests on the TLS lane, from connections in laneConns.
	laneServer *http.Server
	laneConns  *handed

	roster   atomic.Pointer[roster]
	routes   atomic.Pointer[routes]
	turn     atomic.Uint32 // breaks ties between links
	changes  chan struct{}
	httpNews broadcast // a link may carry requests now
	draining atomic.Bool
	left     atomic.Bool   // to a successor
	features atomic.Uint64 // of our hellos

	inbound  atomic.Int64 // open streams and requests of peers
	outbound atomic.Int64 // and our own
	idle     chan struct{}

	// connsMu guards conns. It is a leaf: quic-go calls us with locks of its own
	// held (growWindow), so nothing of quic-go is called under it.
	connsMu sync.Mutex
	conns   map[channel]*connection

	// mu guards the rest. A link's mu may be taken under it, not the reverse, and
	// nothing of quic-go is called under it.
	mu      sync.Mutex
	ctx     context.Context // of everything that Run started; nil before
	stopped bool
	targets map[string]*target
	links   map[*link]struct{}
	wg      sync.WaitGroup
}

// New checks o and builds a node. Nothing is sent before Run. The error joins
// all that is wrong with o.
func New(o Options) (*Node, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	n := &Node{
		o: o, log: o.Log,
		windows: newWindows(o.WindowBudget),
		changes: make(chan struct{}, 1),
		idle:    make(chan struct{}, 1),
		conns:   make(map[channel]*connection),
		targets: make(map[string]*target),
		links:   make(map[*link]struct{}),
	}
	n.instance = newID()
	n.features.Store(wire.FeatureReauth | wire.FeatureSubsets | wire.FeatureFlows)
	n.gate = newGate(n.windows.inbound(), o.Identity.Certificate)
	n.joins = newJoins()
	n.metrics = newMetrics(n)
	if err := n.metrics.register(o.Registerer); err != nil {
		return nil, fmt.Errorf("tunnel metrics: %w", err)
	}
	n.roster.Store(&roster{})
	n.routes.Store(&routes{})
	n.config = n.quicConfig()
	n.transport = &quic.Transport{
		Conn:                  o.PacketConn,
		ConnectionIDGenerator: generation.IDs{Slot: o.Slot},
		VerifySourceAddress:   n.gate.demandProof,
		ConnContext:           n.gate.admit,
		// A scanner learns nothing from us that a QUIC handshake would not tell.
		DisableVersionNegotiationPackets: true,
	}
	if o.ResetKey != nil {
		key := quic.StatelessResetKey(*o.ResetKey)
		n.transport.StatelessResetKey = &key
	}
	n.server, n.callbackServer = n.httpServer(), n.httpServer()
	n.laneServer, n.laneConns = n.newLaneServer(), newHanded()
	n.client = &http3.Transport{
		DisableCompression:     true, // bodies pass as they are
		MaxResponseHeaderBytes: maxHTTPHeader,
		Logger:                 slog.New(slog.DiscardHandler), // its words are not of our vocabulary
	}
	return n, nil
}

func newID() wire.ID {
	var id wire.ID
	_, _ = rand.Read(id[:]) // never fails
	return id
}

func (n *Node) quicConfig() *quic.Config {
	c := &quic.Config{
		Versions:                         []quic.Version{quic.Version1},
		HandshakeIdleTimeout:             handshakeTimeout,
		MaxIdleTimeout:                   idleTimeout,
		KeepAlivePeriod:                  keepAlive,
		MaxIncomingStreams:               int64(n.o.MaxStreamsPerLink) + 1, // and the control stream
		MaxIncomingUniStreams:            16,                               // HTTP/3 needs three
		EnableDatagrams:                  true,
		EnableStreamResetPartialDelivery: true,
		Allow0RTT:                        false, // early data can be replayed
		TokenStore:                       quic.NewLRUTokenStore(tokenOrigins, tokensPerOrigin),
		AllowConnectionWindowIncrease:    n.growWindow,
	}
	n.windows.configure(c)
	return c
}

var errRunTwice = errors.New("tunnel: run called twice")

// Run serves until ctx ends, closes every link with wire.Draining and returns
// nil after all of its goroutines have ended. It returns an error when the
// socket fails. A node runs once.
func (n *Node) Run(ctx context.Context) error {
	// Work outlives ctx for as long as an orderly end takes.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	listener, err := n.transport.Listen(n.listenerTLS(), n.config)
	if err != nil {
		return fmt.Errorf("tunnel: listen: %w", err)
	}
	if !n.begin(work) {
		return errRunTwice
	}
	failed := make(chan error, 1)
	n.spawn(func() { failed <- n.accept(work, listener) })
	n.spawn(func() { n.keep(work) })
	if n.o.TLS != nil {
		n.spawn(func() { _ = n.laneServer.Serve(n.laneConns) })
		if n.o.TLS.Listener != nil {
			n.spawn(func() { n.acceptLane(work) })
		}
	}

	select {
	case <-ctx.Done():
		err = nil
	case err = <-failed:
		err = fmt.Errorf("tunnel: accept: %w", err)
	}
	// The order matters: nobody new comes in, nobody dials, then every link ends
	// with a word that tells peers not to wait for us, and the socket last.
	n.end()
	_ = listener.Close()
	if n.o.TLS != nil && n.o.TLS.Listener != nil {
		_ = n.o.TLS.Listener.Close()
	}
	n.closeAll(wire.Draining)
	stop()
	_ = n.laneServer.Close()
	n.closeAll(wire.Draining) // what was in the middle of a handshake
	n.wg.Wait()
	_ = n.transport.Close()
	return err
}

// begin lets goroutines start.
func (n *Node) begin(ctx context.Context) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ctx != nil {
		return false
	}
	n.ctx = ctx
	for _, t := range n.targets {
		n.startTarget(t)
	}
	return true
}

// end lets no more goroutines start, and ends the targets.
func (n *Node) end() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stopped = true
	for _, t := range n.targets {
		t.stop()
	}
}

// spawn runs f in a goroutine that Run waits for; false means that it is too
// late.
func (n *Node) spawn(f func()) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.spawnLocked(f)
}

func (n *Node) spawnLocked(f func()) bool {
	if n.ctx == nil || n.stopped {
		return false
	}
	n.wg.Go(f)
	return true
}

// closeAll ends every link and every connection that is not of a link yet.
func (n *Node) closeAll(status wire.Status) {
	for _, l := range n.allLinks() {
		l.close(status, nil)
	}
	for _, c := range n.allConnections() {
		_ = c.qc.CloseWithError(quic.ApplicationErrorCode(status), status.String())
	}
}

func (n *Node) allLinks() []*link {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := make([]*link, 0, len(n.links))
	for l := range n.links {
		all = append(all, l)
	}
	return all
}

func (n *Node) allConnections() []*connection {
	n.connsMu.Lock()
	defer n.connsMu.Unlock()
	all := make([]*connection, 0, len(n.conns))
	for _, c := range n.conns {
		all = append(all, c)
	}
	return all
}

// LocalAddr is the address of the socket.
func (n *Node) LocalAddr() net.Addr { return n.o.PacketConn.LocalAddr() }

// Changes receives after any change of a link's state; notifications coalesce.
// There is one channel: it has one reader.
func (n *Node) Changes() <-chan struct{} { return n.changes }
