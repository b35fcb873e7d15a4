package httpway

import (
	"context"
	"net"

	"github.com/isthmus-mesh/isthmus/gateway/strict"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/isthmus-mesh/isthmus/gateway/workload"
)

type guestKey struct{}

// connContext gives a connection's requests the guest that it is of. They end with the
// guest's right to be here.
func connContext(ctx context.Context, c net.Conn) context.Context {
	judged, ok := c.(*strict.Conn)
	if !ok {
		return ctx
	}
	guest, ok := judged.NetConn().(*workload.GuestConn)
	if !ok {
		return ctx
	}
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, guestKey{}, guest))
	context.AfterFunc(guest.Context, func() { cancel(context.Cause(guest.Context)) })
	return ctx
}

// caller is who asks, how that is known, and by which scheme.
func (w *Way) caller(ctx context.Context) (id string, assurance wire.Assurance, scheme string) {
	if guest, ok := ctx.Value(guestKey{}).(*workload.GuestConn); ok {
		return guest.Caller, wire.AssuranceMTLS, "https"
	}
	return w.o.Caller, wire.AssuranceListener, "http"
}
