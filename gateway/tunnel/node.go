package tunnel

import (
	"context"
	"errors"
	"net"
	"net/http"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

var errNotBuilt = errors.New("not built yet")

// Node is this gateway's end of all its links. It owns one QUIC transport that
// both listens and dials.
type Node struct{}

// New checks o and builds a node. Nothing is sent before Run.
func New(o Options) (*Node, error) { return &Node{}, nil }

// Run serves until ctx ends, closes every link with "draining" and returns after
// all of its goroutines have.
func (n *Node) Run(ctx context.Context) error { return errNotBuilt }

// LocalAddr is the address of the socket.
func (n *Node) LocalAddr() net.Addr { return nil }

// SetPeers replaces the set of peers: links to new gateways are dialed, links to
// removed ones are closed at once (wire.Revoked), a changed address is
// made-before-broken. An invalid set is refused as a whole, with all problems.
// It may be called before Run and at any time.
func (n *Node) SetPeers(peers []Peer) error { return nil }

// Links lists all links and all gateways that should have one, by cluster, gateway
// and address.
func (n *Node) Links() []LinkInfo { return nil }

// Changes receives after any change of a link's state; notifications coalesce.
// There is one channel: it has one reader.
func (n *Node) Changes() <-chan struct{} { return nil }

// OpenStream opens a stream to cluster over its best link and sends h and first
// in one flight. It returns at once, without waiting for the far gateway: ctx
// bounds only this call. Errors are *LinkError (Delivered false), *RefusedError
// (a limit of this end or stream credit: wire.Overloaded) and ctx's.
func (n *Node) OpenStream(ctx context.Context, cluster string, h *wire.Header, first []byte) (*Stream, error) {
	return nil, errNotBuilt
}

// RoundTrip sends req to cluster over HTTP/3 on its best link. h travels beside
// it; header fields of the tunnel in req are replaced and those in the response
// removed. req is not changed. A refusal comes back as *RefusedError before any
// byte of the body; a link that dies as *LinkError, also from the body.
func (n *Node) RoundTrip(cluster string, h *wire.Header, req *http.Request) (*http.Response, error) {
	return nil, errNotBuilt
}

// SendReport sends r to every linked gateway; a report that could not be sent
// yet is replaced by the newer one.
func (n *Node) SendReport(r wire.Report) {}

// Drain tells the peers, refuses new inbound streams and requests with
// wire.Draining, waits until those in progress (inbound and outbound) are done
// or ctx ends, and closes all links. It returns ctx's cause if it cut any.
func (n *Node) Drain(ctx context.Context) error { return nil }

// Refuse answers a request with a typed refusal that the near gateway gets as
// *RefusedError. Nothing may have been written to w.
func Refuse(w http.ResponseWriter, r wire.Reply) {}
