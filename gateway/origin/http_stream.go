package origin

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/endpoint"
	"github.com/isthmus-mesh/isthmus/gateway/relay"
	"github.com/isthmus-mesh/isthmus/gateway/serverlog"
	"github.com/isthmus-mesh/isthmus/gateway/splice"
	"github.com/isthmus-mesh/isthmus/gateway/strict"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

const (
	// maxHeader bounds a request's head, as at the near gateway.
	maxHeader = 64 << 10
	// headerTimeout is how long a head may take to arrive. A caller that keeps a
	// connection open before it has a request is as welcome as it would be directly,
	// so it is that of an idle connection.
	headerTimeout = splice.DefaultIdleTimeout
)

func (h *Handler) newServer() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           http.HandlerFunc(h.serveInStream),
		Protocols:         protocols,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       splice.DefaultIdleTimeout,
		MaxHeaderBytes:    maxHeader,
		ConnState:         strict.ConnState,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if judged, ok := c.(*strict.Conn); ok {
				return context.WithValue(ctx, streamKey{}, judged.NetConn())
			}
			return ctx
		},
		ErrorLog:                     serverlog.New(h.o.Log, "http stream"),
		DisableGeneralOptionsHandler: true,
	}
}

type streamKey struct{}

// Run serves HTTP in plain streams until ctx ends, and has waited for it.
func (h *Handler) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() {
		served <- h.server.Serve(&strict.Listener{Listener: h.streams, MaxHead: maxHeader, HalfClose: true})
	}()
	<-ctx.Done()
	_ = h.server.Close()
	if err := <-served; !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Drain ends the idle connections in plain streams and tells the callers of the
// others to come anew, until all have ended or ctx has.
func (h *Handler) Drain(ctx context.Context) error { return h.server.Shutdown(ctx) }

// serveHTTPStream serves the requests in a plain stream, until the stream ends.
// first is a connection for the first of them.
func (h *Handler) serveHTTPStream(ctx context.Context, in *tunnel.Inbound, f *facts, first *opened) {
	// What is left to the stream's opener is not what is left to each request.
	f.header.Deadline = 0
	c := &streamConn{byteStream: in, facts: *f, closed: make(chan struct{})}
	c.first.Store(first)
	defer func() {
		if o := c.first.Swap(nil); o != nil {
			o.close()
		}
	}()
	if err := in.Accept(); err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { // the link is gone, or the right to it
		in.Reset(h.gone(ctx)())
		_ = c.Close()
	})
	defer stop()
	if !h.streams.put(c) {
		in.Reset(wire.Draining)
		return
	}
	<-c.closed
}

// ServeLocal serves HTTP on a connection of a caller in this cluster to a service of
// it: what arrives on a TCP way whose service speaks HTTP. The caller is then named
// to the endpoint as on every other way, and cannot name itself. spare is a
// connection to one of the endpoints. It does not wait; the error is that of a
// handler that has ended.
func (h *Handler) ServeLocal(s *splice.PipeConn, call attempt.Call, e *catalog.Endpoint, spare net.Conn) error {
	c := &streamConn{
		byteStream: s, closed: make(chan struct{}),
		facts: facts{header: wire.Header{Service: call.Service.String(), Port: call.Port, Caller: call.Caller, Assurance: call.Assurance}, local: true, source: call.Source},
	}
	c.spare.Store(endpoint.NewSpare(e, spare))
	if !h.streams.put(c) {
		_ = spare.Close() // it was never used
		return net.ErrClosed
	}
	return nil
}

// serveInStream serves one request of a plain stream.
func (h *Handler) serveInStream(w http.ResponseWriter, r *http.Request) {
	c, ok := r.Context().Value(streamKey{}).(*streamConn)
	if !ok {
		panic(http.ErrAbortHandler)
	}
	h.serve(w, r, c.requestFacts())
}

// upgrade carries a request in a plain stream that wants another protocol on it.
func (h *Handler) upgrade(ctx context.Context, w http.ResponseWriter, r *http.Request, x *exchange) {
	e := x.entry
	request, err := relay.UpgradeRequest(r, func(fields http.Header) {
		relay.SetCaller(fields, h.o.Identity(), x.facts.header.Caller)
	})
	o := x.facts.takeFirst()
	if o != nil {
		x.sequence.Adopt(o.attempt)
	}
	switch {
	case err != nil:
	case o == nil:
		o, err = h.connect(ctx, x.sequence)
	default:
		err = o.attempt.Enter(ctx, x.sequence)
	}
	if err != nil {
		e.Reason, e.Err = reasonOf(err), err
		if o != nil {
			o.close()
		}
		x.facts.breakOff()
		panic(http.ErrAbortHandler)
	}
	backend := splice.TCP(o.conn)
	defer func() {
		_ = backend.Close() // a second time where the splice has
		o.attempt.End()
	}()
	e.Endpoint, e.Attempts = o.attempt.Choice.Endpoint.ID, x.sequence.Attempts()
	broken := func(err error) {
		x.failed = err
		_ = o.attempt.Fail(ctx, err, attempt.Never) // what was sent is not kept
		panic(http.ErrAbortHandler)
	}
	if _, err := backend.Write(request); err != nil {
		broken(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = backend.Close() })
	answer, err := relay.ReadAnswer(backend, r)
	stop()
	if err != nil {
		broken(err)
	}
	switched, err := answer.Switched(r)
	if err != nil {
		broken(err)
	}
	e.Answered()
	o.attempt.Answered(answer.StatusCode < http.StatusBadGateway || answer.StatusCode > http.StatusGatewayTimeout)
	e.Status = answer.StatusCode
	if !switched {
		n, err := answer.Decline(w)
		x.received.Add(float64(n))
		if err != nil {
			x.failed = err
			panic(http.ErrAbortHandler)
		}
		return
	}
	// The stream's own end is what ends it: the request's context ended with the
	// server's hold of the connection.
	ctx, release := x.sequence.Guard(context.WithoutCancel(ctx))
	defer release()
	result, err := answer.Switch(ctx, w, h.o.Splicer, splice.Counters{AB: x.sent, BA: x.received}, h.gone(ctx))
	if err != nil {
		e.Reason, e.Err = wire.Canceled.String(), errors.Join(err, result.Err)
		return
	}
	enter(e, result)
}

// byteStream is what a server can serve on: a stream of a peer (*tunnel.Inbound), or
// one of this process.
type byteStream interface {
	io.ReadWriter
	CloseWrite() error
	Reset(status wire.Status)
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
}

// streamConn is a stream as a server's connection.
type streamConn struct {
	byteStream
	facts  facts
	first  atomic.Pointer[opened]         // of a peer's stream
	spare  atomic.Pointer[endpoint.Spare] // of a local one
	once   sync.Once
	closed chan struct{}

	writing sync.Mutex // a stream must not be closed under a Write
}

// requestFacts are those of one request; the first takes the connection that the
// stream was opened with.
func (c *streamConn) requestFacts() *facts {
	f := c.facts
	f.stream, f.first, f.spare = c, c.first.Swap(nil), c.spare.Swap(nil)
	return &f
}

// breakOff resets the plain stream of a request that cannot be answered.
func (f *facts) breakOff() {
	if f.stream != nil {
		f.stream.Reset(wire.Reset)
	}
}

// Write implements net.Conn.
func (c *streamConn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.byteStream.Write(p)
}

// Close implements net.Conn: in order, unless the stream was reset.
func (c *streamConn) Close() error {
	c.once.Do(func() {
		if !c.writing.TryLock() {
			_ = c.SetWriteDeadline(time.Unix(1, 0)) // ends the Write under way
			c.writing.Lock()
		}
		_ = c.CloseWrite() // fails on a stream that has ended
		c.writing.Unlock()
		if s := c.spare.Swap(nil); s != nil {
			s.Close()
		}
		close(c.closed)
	})
	return nil
}

// SetLinger makes Close a reset, as on TCP: the server aborts a broken answer so.
func (c *streamConn) SetLinger(seconds int) error {
	if seconds == 0 {
		c.Reset(wire.Reset)
	}
	return nil
}

// LocalAddr implements net.Conn; a stream has none.
func (c *streamConn) LocalAddr() net.Addr { return streamAddr{} }

// RemoteAddr implements net.Conn.
func (c *streamConn) RemoteAddr() net.Addr { return streamAddr{} }

// SetDeadline implements net.Conn.
func (c *streamConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

type streamAddr struct{}

func (streamAddr) Network() string { return "isthmus" }
func (streamAddr) String() string  { return "stream" }

// streamListener gives streams to a server as connections.
type streamListener struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func newStreamListener() *streamListener {
	return &streamListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *streamListener) put(c net.Conn) bool {
	select {
	case l.conns <- c:
		return true
	case <-l.closed:
		return false
	}
}

// Accept implements net.Listener.
func (l *streamListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *streamListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *streamListener) Addr() net.Addr { return streamAddr{} }
