package tunnel

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// httpServer makes one of the two HTTP/3 servers; connections are given to it
// after their hello.
func (n *Node) httpServer() *http3.Server {
	return &http3.Server{
		Handler:        http.HandlerFunc(n.serveHTTP),
		MaxHeaderBytes: maxHTTPHeader,
		Logger:         slog.New(slog.DiscardHandler), // its words are not of our vocabulary
		ConnContext: func(ctx context.Context, qc *quic.Conn) context.Context {
			n.connsMu.Lock()
			defer n.connsMu.Unlock()
			return context.WithValue(ctx, connectionKey, n.conns[qc])
		},
	}
}

// request is what a handler may ask of a request's context.
type request struct {
	remote Remote
	header wire.Header
}

// serveHTTP is the far end of a request, around the Handler's.
func (n *Node) serveHTTP(w http.ResponseWriter, r *http.Request) {
	c, ok := r.Context().Value(connectionKey).(*connection)
	if !ok || c == nil {
		panic(http.ErrAbortHandler) // its connection ended before it began
	}
	l := c.link.Load()
	rw := &responseWriter{ResponseWriter: w, conn: c}
	if status := n.enter(l); status != wire.OK {
		n.refusedBy(l, inboundDirection, status)
		rw.refuse(wire.Reply{Status: status})
		return
	}
	defer n.leave(l)
	header, err := wire.HeaderFromHTTP(r.Header)
	if err != nil {
		n.log.Debug("malformed request", "cluster", c.remote.Cluster, "gateway", c.remote.Gateway, "err", err)
		n.refusedBy(l, inboundDirection, wire.Protocol)
		rw.refuse(wire.Reply{Status: wire.Protocol, Message: err.Error()})
		return
	}
	wire.StripHTTP(r.Header)
	l.meters.httpIn.began()
	defer l.meters.httpIn.ended()
	defer func() {
		if p := recover(); p != nil {
			if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				n.log.Error("handler of a request panicked", "cluster", c.remote.Cluster, "gateway", c.remote.Gateway,
					"service", header.Service, "err", p, "reason", string(debug.Stack()))
			}
			panic(http.ErrAbortHandler) // http3 resets the stream
		}
	}()
	ctx := context.WithValue(r.Context(), requestKey, &request{remote: c.remote, header: header})
	inner := r.WithContext(ctx)
	inner.Body = &requestBody{ReadCloser: r.Body, conn: c, outer: r, inner: inner}
	n.o.Handler.ServeHTTP(rw, inner)
	if rw.refused {
		n.refusedBy(l, inboundDirection, rw.status)
	}
}

// requestBody hands on the trailers: http3 puts them into the request that it
// made, which is not the one that the handler has. Its errors are those of a
// stream's payload: *LinkError when the link ends, *ResetError when the near end
// gives up.
type requestBody struct {
	io.ReadCloser
	conn         *connection
	outer, inner *http.Request
}

// Read implements io.Reader.
func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) && len(b.outer.Trailer) > 0 {
		// Into the same map, so that who kept the announced one finds the values.
		if b.inner.Trailer == nil {
			b.inner.Trailer = make(http.Header, len(b.outer.Trailer))
		}
		maps.Copy(b.inner.Trailer, b.outer.Trailer)
	}
	if b.conn.tcp != nil && err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
		return n, b.conn.laneError(b.conn.link.Load(), err)
	}
	if _, reset := errors.AsType[*quic.StreamError](err); reset || errors.Is(err, net.ErrClosed) {
		err = b.conn.streamError(err)
	}
	return n, err
}

// Refuse answers a request with a typed refusal that the near gateway gets as
// *RefusedError. w is the Handler's, or wraps it with an Unwrap method; nothing
// may have been written to it. A status of wire.OK is sent as wire.Internal.
func Refuse(w http.ResponseWriter, r wire.Reply) {
	for {
		switch t := w.(type) {
		case *responseWriter:
			t.refuse(r)
			return
		case interface{ Unwrap() http.ResponseWriter }:
			w = t.Unwrap()
		default:
			// Not of a tunnel (a test's recorder, say): the fields at least.
			r.SetHTTP(w.Header())
			w.WriteHeader(refusedCode)
			return
		}
	}
}

// refusedCode is the HTTP status of every refusal; the near gateway reads the
// typed one.
const refusedCode = http.StatusServiceUnavailable

// responseWriter keeps the tunnel's header fields the tunnel's: an endpoint that
// sets one of them could otherwise make the near gateway replay a request.
type responseWriter struct {
	http.ResponseWriter
	conn    *connection
	begun   bool
	refused bool
	status  wire.Status
}

func (w *responseWriter) refuse(r wire.Reply) {
	if w.begun {
		return
	}
	if r.Status == wire.OK || !r.Status.Valid() {
		r.Status = wire.Internal
	}
	h := w.Header()
	clear(h)
	r.SetHTTP(h)
	w.begun, w.refused, w.status = true, true, r.Status
	w.ResponseWriter.WriteHeader(refusedCode)
}

// WriteHeader implements http.ResponseWriter.
func (w *responseWriter) WriteHeader(code int) {
	if w.begun {
		return
	}
	wire.StripHTTP(w.Header())
	w.begun = code >= 200 || code == http.StatusSwitchingProtocols
	w.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (w *responseWriter) Write(p []byte) (int, error) {
	if w.refused {
		return 0, http.ErrBodyNotAllowed
	}
	if !w.begun {
		wire.StripHTTP(w.Header())
		w.begun = true
	}
	done := w.conn.sending(len(p))
	defer done.end()
	return w.ResponseWriter.Write(p)
}

// FlushError is for http.ResponseController.
func (w *responseWriter) FlushError() error {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Flush implements http.Flusher.
func (w *responseWriter) Flush() { _ = w.FlushError() }

// SetReadDeadline is for http.ResponseController.
func (w *responseWriter) SetReadDeadline(t time.Time) error {
	return http.NewResponseController(w.ResponseWriter).SetReadDeadline(t)
}

// SetWriteDeadline is for http.ResponseController.
func (w *responseWriter) SetWriteDeadline(t time.Time) error {
	return http.NewResponseController(w.ResponseWriter).SetWriteDeadline(t)
}

// Hijack is not possible; there is no Unwrap, which would let header fields past
// WriteHeader.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, http.ErrNotSupported
}
