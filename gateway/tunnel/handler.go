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
	// is refused with wire.Internal). ctx ends when the link does. Header.Flow says that it
	// is a flow of datagrams ([Inbound.Flow]).
	ServeStream(ctx context.Context, in *Inbound)
	// ServeHTTP serves one request. RemoteFrom and HeaderFrom read the request's
	// context; header fields of the tunnel itself are gone from r. Refuse gives
	// a typed refusal.
	ServeHTTP(w http.ResponseWriter, r *http.Request)
	// HandleReport takes a peer gateway's load report. It must not block for long.
	HandleReport(from Remote, r wire.Report)
	// HandleLoad takes a peer gateway's load; as HandleReport.
	HandleLoad(from Remote, l wire.Load)
}

type contextKey int

const (
	requestKey contextKey = iota
	handshakeKey
	connectionKey
)

// RemoteFrom returns the gateway that sent a request.
func RemoteFrom(ctx context.Context) (Remote, bool) {
	r, ok := ctx.Value(requestKey).(*request)
	if !ok {
		return Remote{}, false
	}
	return r.remote, true
}

// HeaderFrom returns the facts that came with a request. They must not be
// changed.
func HeaderFrom(ctx context.Context) (*wire.Header, bool) {
	r, ok := ctx.Value(requestKey).(*request)
	if !ok {
		return nil, false
	}
	return &r.header, true
}
