package tunnel

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel/lane"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// On the TLS lane requests travel by HTTP/2, of the standard library. It is given
// connections that are authenticated already, and takes them for plain ones.

const (
	// laneStreamBuffer and laneConnBuffer are the receive windows of a request and of
	// its connection, the greatest that net/http takes.
	laneStreamBuffer = 4<<20 - 1
	laneConnBuffer   = 4<<20 - 1
)

func (n *Node) laneHTTP2() *http.HTTP2Config {
	return &http.HTTP2Config{
		MaxConcurrentStreams:          n.o.MaxStreamsPerLink + 1, // ours is the refusal
		MaxReceiveBufferPerStream:     laneStreamBuffer,
		MaxReceiveBufferPerConnection: laneConnBuffer,
	}
}

func onlyHTTP2() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}

// newLaneServer makes the server of requests; connections are given to it after their
// hello.
func (n *Node) newLaneServer() *http.Server {
	return &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if c, ok := r.Context().Value(connectionKey).(*connection); ok && c != nil {
				c.requests.Add(1)
				defer c.requests.Done()
			}
			n.serveHTTP(w, r)
		}),
		Protocols:         onlyHTTP2(),
		HTTP2:             n.laneHTTP2(),
		MaxHeaderBytes:    maxHTTPHeader,
		ReadHeaderTimeout: handshakeTimeout,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo), // its words are not of our vocabulary
		ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
			lc, ok := lane.Of(nc)
			if !ok {
				return ctx
			}
			n.connsMu.Lock()
			defer n.connsMu.Unlock()
			return context.WithValue(ctx, connectionKey, n.conns[lc])
		},
	}
}

// serveRequests serves requests on c until it ends, and waits for their handlers.
func (n *Node) serveRequests(c *connection) {
	select {
	case n.laneConns.conns <- c.tcp.Plain():
		<-c.qc.Context().Done()
	case <-c.qc.Context().Done():
	}
	c.requests.Wait()
}

// handed is a listener of connections that are given to it.
type handed struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func newHanded() *handed { return &handed{conns: make(chan net.Conn), closed: make(chan struct{})} }

// Accept implements net.Listener.
func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handed) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr implements net.Listener.
func (h *handed) Addr() net.Addr { return &net.TCPAddr{} }

// newClient makes what sends requests on c.
func (n *Node) newClient(ctx context.Context, c *connection) (requester, error) {
	if c.quic != nil {
		return n.client.NewClientConn(c.quic), nil
	}
	t := &http.Transport{
		DialContext:            func(context.Context, string, string) (net.Conn, error) { return c.tcp.Plain(), nil },
		Protocols:              onlyHTTP2(),
		HTTP2:                  n.laneHTTP2(),
		DisableCompression:     true, // bodies pass as they are
		MaxResponseHeaderBytes: maxHTTPHeader,
	}
	return t.NewClientConn(ctx, "http", "gateway:0")
}

// laneFault is the error of a reset in net/http's HTTP/2, which is not exported: that
// one copies itself into any error of these fields (errors.As).
type laneFault struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

// Error implements error.
func (laneFault) Error() string { return "stream reset" }

// http2Refused is REFUSED_STREAM (RFC 9113, 7): not processed at all.
const http2Refused = 7

// settled is a moment in which the end of a connection, of which an error of HTTP/2
// has told, becomes known.
const settled = 10 * time.Millisecond

// laneError translates an error of HTTP/2 on c for users of this package.
func (c *connection) laneError(l *link, err error) error {
	if f, ok := errors.AsType[laneFault](err); ok {
		if f.Code == http2Refused {
			c.node.refusedBy(l, outboundDirection, wire.Draining)
			return &RefusedError{Cluster: c.remote.Cluster, Gateway: c.remote.Gateway, Status: wire.Draining}
		}
		return &ResetError{Status: wire.Reset, Remote: true}
	}
	t := time.NewTimer(settled)
	defer t.Stop()
	select {
	case <-c.qc.Context().Done():
		return c.linkError(context.Cause(c.qc.Context()), true)
	case <-t.C:
		// The peer's HTTP is malformed, or ours would have been.
		return &ResetError{Status: wire.Protocol, Remote: true}
	}
}
