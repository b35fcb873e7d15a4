package tunnel

import (
	"context"
	"net/http"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// Handler is the far gateway: it serves what peers send over their links. All
// methods are called from several goroutines.
type Handler interface {
	// ServeStream serves one stream and returns when it is done with it; what is
	// still open then is closed (a stream that was neither accepted nor refused
	// is refused with wire.Internal). ctx ends when the link does.
	ServeStream(ctx context.Context, in *Inbound)
	// ServeHTTP serves one request. RemoteFrom and HeaderFrom read the request's
	// context; header fields of the tunnel itself are gone from r. Refuse gives
	// a typed refusal.
	ServeHTTP(w http.ResponseWriter, r *http.Request)
	// HandleReport takes a peer gateway's load report. It must not block for long.
	HandleReport(from Remote, r wire.Report)
}

type contextKey int

const (
	remoteKey contextKey = iota
	headerKey
)

// RemoteFrom returns the gateway that sent a request.
func RemoteFrom(ctx context.Context) (Remote, bool) {
	r, ok := ctx.Value(remoteKey).(Remote)
	return r, ok
}

// HeaderFrom returns the facts that came with a request.
func HeaderFrom(ctx context.Context) (*wire.Header, bool) {
	h, ok := ctx.Value(headerKey).(*wire.Header)
	return h, ok
}
