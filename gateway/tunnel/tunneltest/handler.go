package tunneltest

import (
	"context"
	"io"
	"net/http"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// Handler is a tunnel.Handler of functions; a nil one refuses with
// wire.UnknownService, or ignores a report.
type Handler struct {
	Stream func(ctx context.Context, in *tunnel.Inbound)
	HTTP   http.HandlerFunc
	Report func(from tunnel.Remote, r wire.Report)
	Load   func(from tunnel.Remote, l wire.Load)
}

// ServeStream implements tunnel.Handler.
func (h Handler) ServeStream(ctx context.Context, in *tunnel.Inbound) {
	if h.Stream == nil {
		_ = in.Refuse(wire.UnknownService, "no handler")
		return
	}
	h.Stream(ctx, in)
}

// ServeHTTP implements tunnel.Handler.
func (h Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.HTTP == nil {
		tunnel.Refuse(w, wire.Reply{Status: wire.UnknownService, Message: "no handler"})
		return
	}
	h.HTTP(w, r)
}

// HandleReport implements tunnel.Handler.
func (h Handler) HandleReport(from tunnel.Remote, r wire.Report) {
	if h.Report != nil {
		h.Report(from, r)
	}
}

// HandleLoad implements tunnel.Handler.
func (h Handler) HandleLoad(from tunnel.Remote, l wire.Load) {
	if h.Load != nil {
		h.Load(from, l)
	}
}

// Echo sends back what it receives: bytes on streams until half-close, the body
// on requests.
func Echo() Handler {
	return Handler{
		Stream: func(_ context.Context, in *tunnel.Inbound) {
			if err := in.Accept(); err != nil {
				return
			}
			if _, err := io.Copy(in, in); err != nil {
				in.Reset(wire.Reset)
				return
			}
			_ = in.CloseWrite()
		},
		HTTP: func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(w, r.Body)
		},
	}
}
