package tunnel

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel/lane"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/isthmus-mesh/isthmus/identity"
)

// The application protocols. What a connection is for is negotiated with its
// handshake, so that a stranger's bytes meet one parser only.
const (
	// alpnRaw: streams, in both directions.
	alpnRaw = "isthmus/1"
	// alpnHTTP: HTTP/3 requests from the dialing to the accepting side.
	alpnHTTP = "isthmus-h3/1"
	// alpnCallback: HTTP/3 requests the other way round, where only one side can
	// dial.
	alpnCallback = "isthmus-h3-callback/1"
	// The same on the TLS lane. There the control connection carries nothing else, and
	// each of the others one stream at a time, which the side that dialed opens, or
	// the other one (callback).
	alpnLane         = "isthmus-tls/1"
	alpnLaneHTTP     = "isthmus-h2/1"
	alpnLaneCallback = "isthmus-h2-callback/1"
)

// The numbers of a link's connections are grouped by protocol.
const (
	controlNumber  = 0
	httpNumber     = maxConnections
	callbackNumber = 2 * maxConnections
	// Those that carry a stream at a time, of the TLS lane only.
	poolNumber         = 3 * maxConnections
	callbackPoolNumber = poolNumber + maxPool
)

// alpnOf returns the protocol of the connection with the given number, "" if there is
// none on that lane.
func alpnOf(on Lane, number uint32) string {
	raw, http, callback := alpnRaw, alpnHTTP, alpnCallback
	if on == LaneTLS {
		raw, http, callback = alpnLane, alpnLaneHTTP, alpnLaneCallback
	}
	switch {
	case number >= poolNumber && on == LaneTLS:
		return raw
	case number >= poolNumber:
		return ""
	case number >= callbackNumber:
		return callback
	case number >= httpNumber:
		return http
	default:
		return raw
	}
}

// connection is one connection whose peer is authenticated and admitted.
type connection struct {
	qc     channel
	quic   *quic.Conn // it, on the QUIC lane; else nil
	tcp    *lane.Conn // it, on the TLS lane; else nil
	node   *Node
	remote Remote
	*credentials

	// expiry fires at the deadline of the credentials.
	expiryMu  sync.Mutex
	expiry    *time.Timer
	forgotten bool

	// link is set last, and not changed after; number and client before it.
	link   atomic.Pointer[link]
	number uint32
	client requester // where requests can be sent

	flows flowTable

	requests sync.WaitGroup // that are served here, by HTTP/2
	window   atomic.Int64   // bytes of receive window beyond the initial ones
	streams  atomic.Int64   // streams and requests that were opened here

	// counted is what the statistics have seen so far; see pathMeter.
	counted quic.ConnectionStats
}

// admit takes in a connection after its handshake; before is our certificate when
// that began. Roster and bundles are asked again: they may have changed since
// crypto/tls asked, and a sweep sees only what is in conns.
func (n *Node) admit(qc channel, before *x509.Certificate) (*connection, error) {
	state := qc.ConnectionState().TLS
	id, err := identity.PeerID(state)
	if err != nil {
		return nil, err
	}
	remote, ok := n.roster.Load().lookup(id)
	if !ok {
		return nil, &identity.PeerError{ID: id, Reason: identity.ReasonUnauthorized, Err: errNotPeer}
	}
	shown, err := newCredentials(state, before, n.o.Identity.Certificate())
	if err != nil {
		return nil, err
	}
	c := &connection{qc: qc, node: n, remote: remote, credentials: shown}
	c.quic, _ = qc.(*quic.Conn)
	c.tcp, _ = qc.(*lane.Conn)
	c.watchEnd()
	if c.quic != nil {
		n.windows.base()
	}
	n.connsMu.Lock()
	n.conns[qc] = c
	n.connsMu.Unlock()
	if err := n.stillAdmitted(c, verdicts{}); err != nil {
		n.forget(c, wire.Revoked)
		return nil, err
	}
	return c, nil
}

// forget ends what admit began. The connection is closed by then, or is closed
// now with status.
func (n *Node) forget(c *connection, status wire.Status) {
	c.unwatch()
	c.cut(status)
	n.connsMu.Lock()
	delete(n.conns, c.qc)
	n.connsMu.Unlock()
	if c.quic != nil {
		n.windows.give(n.windows.initial + c.window.Load())
	}
}

// lane is what the connection runs on.
func (c *connection) lane() Lane {
	if c.tcp != nil {
		return LaneTLS
	}
	return LaneQUIC
}

// growWindow is quic.Config.AllowConnectionWindowIncrease.
func (n *Node) growWindow(qc *quic.Conn, delta uint64) bool {
	n.connsMu.Lock()
	c := n.conns[qc]
	n.connsMu.Unlock()
	if c == nil || !n.windows.take(int64(delta)) {
		return false
	}
	c.window.Add(int64(delta))
	return true
}

// alive reports whether the connection can carry anything.
func (c *connection) alive() bool { return c.qc.Context().Err() == nil }

// end closes the connection, and its link with it if it is the control
// connection or if status is about the peer and not about this connection.
func (c *connection) end(status wire.Status, cause error) {
	if l := c.link.Load(); l != nil && (c.number == controlNumber || status == wire.Revoked) {
		l.close(status, cause)
		return
	}
	c.cut(status)
}

// cut closes the connection alone.
func (c *connection) cut(status wire.Status) {
	_ = c.qc.CloseWithError(quic.ApplicationErrorCode(status), status.String())
}

// streamError translates an error of a stream of c for users of this package.
func (c *connection) streamError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF):
		return io.EOF
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, quic.ErrStreamClosed):
		return err
	}
	if e, ok := errors.AsType[*quic.StreamError](err); ok {
		status, ok := wire.StatusFromCode(uint64(e.ErrorCode))
		if !ok || status == wire.OK {
			status = wire.Reset
		}
		return &ResetError{Status: status, Remote: e.Remote}
	}
	if c.number >= poolNumber && c.cutOff(err) {
		return &ResetError{Status: wire.Reset, Remote: true}
	}
	return c.linkError(err, true)
}

// cutOff reports whether a connection that carries one stream has ended by itself, and
// its link goes on.
func (c *connection) cutOff(err error) bool {
	if e, ok := errors.AsType[*quic.ApplicationError](err); ok && applicationStatus(e) != wire.Reset {
		return false // said of the link, on each of its connections
	}
	l := c.link.Load()
	return l != nil && l.cause() == nil && l.controlled()
}

// linkError says that the connection ended by err. The link's own word on why
// comes first: it knows more than the connection that it closed.
func (c *connection) linkError(err error, delivered bool) *LinkError {
	e := &LinkError{Cluster: c.remote.Cluster, Gateway: c.remote.Gateway, Status: closeStatus(err), Delivered: delivered, Err: err}
	if l := c.link.Load(); l != nil {
		if _, gone := errors.AsType[*quic.StatelessResetError](err); gone {
			// All connections of a link reach one process, and that one is no more.
			// The link ends before its user hears of it: what is repeated must not
			// meet the next connection, which is as dead.
			l.close(wire.LinkDead, err)
		}
		if cause := l.cause(); cause != nil {
			e.Status, e.Err = cause.Status, cause.Err
		}
	}
	return e
}

// heed ends the link of a connection that has ended because the peer gave the link
// up: it says so on each connection, and what comes through of one counts for all.
// Where only one way is cut, ours, this is how we know.
func (c *connection) heed() {
	e, ok := errors.AsType[*quic.ApplicationError](c.ended())
	if l := c.link.Load(); l != nil && ok && e.Remote && applicationStatus(e) == wire.LinkDead {
		l.close(wire.LinkDead, e)
	}
}

// ended is the cause of the end of the connection. It must be ending: the errors
// of its streams come a moment before its context ends.
func (c *connection) ended() error {
	<-c.qc.Context().Done()
	return context.Cause(c.qc.Context())
}
