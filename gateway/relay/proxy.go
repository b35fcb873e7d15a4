package relay

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"sync"

	"github.com/isthmus-mesh/isthmus/gateway/serverlog"
)

// copyBuffer is what a response's body is copied with: memory while a response
// streams, so not the bulk size of splice.
const copyBuffer = 32 << 10

// ProxyOptions configure a proxy. Log may be nil.
type ProxyOptions struct {
	// Transport sends requests. It must not use the request's URL host.
	Transport http.RoundTripper
	// Rewrite changes the outgoing request, last; nil changes nothing. The
	// connection's fields have been removed, as have X-Forwarded-* and Forwarded.
	Rewrite func(*httputil.ProxyRequest)
	// Failed answers where Transport failed.
	Failed func(http.ResponseWriter, *http.Request, error)
	Log    *slog.Logger
}

// NewProxy returns a handler that sends each request through o.Transport and its
// answer back as it comes.
func NewProxy(o ProxyOptions) http.Handler {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	proxy := &httputil.ReverseProxy{
		Transport: o.Transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			// Unparsable queries are the service's business, not ours.
			r.Out.URL.RawQuery = r.In.URL.RawQuery
			carryTrailer(r)
			if o.Rewrite != nil {
				o.Rewrite(r)
			}
		},
		FlushInterval: -1, // each piece at once: server-sent events, streaming gRPC
		BufferPool:    &buffers{pool: sync.Pool{New: func() any { return new([copyBuffer]byte) }}},
		ErrorHandler:  o.Failed,
		ErrorLog:      serverlog.New(o.Log, "http copy ended"),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 1 {
			// Else the server reads the rest of the request before the response
			// may start, which ends every bidirectional exchange.
			_ = http.NewResponseController(w).EnableFullDuplex()
		}
		if r.Context().Value(http.ServerContextKey) == nil {
			// HTTP/3's server does not set it, and without it ReverseProxy takes itself
			// for a test: it would end an answer that broke as if it were whole.
			r = r.WithContext(context.WithValue(r.Context(), http.ServerContextKey, new(http.Server)))
		}
		proxy.ServeHTTP(&flushGate{ResponseWriter: w}, r)
	})
}

// flushGate keeps a gRPC answer that is only a header (trailers-only) in one
// piece: flushed, it would become a header and an empty end, which gRPC takes for
// an answer without a status.
type flushGate struct {
	http.ResponseWriter
	closed bool
}

// WriteHeader implements http.ResponseWriter.
func (g *flushGate) WriteHeader(status int) {
	g.closed = len(g.Header()["Grpc-Status"]) > 0
	g.ResponseWriter.WriteHeader(status)
}

// FlushError is for http.ResponseController.
func (g *flushGate) FlushError() error {
	if g.closed {
		return nil
	}
	return http.NewResponseController(g.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController.
func (g *flushGate) Unwrap() http.ResponseWriter { return g.ResponseWriter }

// carryTrailer hands the caller's trailer on: the fields that were announced,
// once the body has ended. Only gateways write some fields, here too.
func carryTrailer(r *httputil.ProxyRequest) {
	r.Out.Trailer = nil
	if len(r.In.Trailer) == 0 || r.Out.Body == nil {
		return
	}
	announced := make(http.Header, len(r.In.Trailer))
	for name := range r.In.Trailer {
		announced[name] = nil
	}
	Strip(announced)
	r.Out.Trailer = announced
	r.Out.Body = &trailedBody{ReadCloser: r.Out.Body, in: r.In, out: announced}
}

type trailedBody struct {
	io.ReadCloser
	in  *http.Request
	out http.Header
}

// Read implements io.Reader. The server has filled the trailer when it says EOF,
// and the transport reads it after that.
func (b *trailedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		for name := range b.out {
			b.out[name] = b.in.Trailer[name]
		}
	}
	return n, err
}

type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte { return b.pool.Get().(*[copyBuffer]byte)[:] }

func (b *buffers) Put(p []byte) { b.pool.Put((*[copyBuffer]byte)(p)) }
