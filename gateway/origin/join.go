package origin

import (
	"context"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/gateway/account"
	"github.com/isthmus-mesh/isthmus/gateway/splice"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

var _ tunnel.JoinHandler = (*Handler)(nil)

// JoinOpen implements tunnel.JoinHandler.
func (h *Handler) JoinOpen() bool { return h.o.Joining != nil && h.o.Joining() }

// ServeJoin implements tunnel.JoinHandler: whoever it is, the own federation
// judges, end to end; this gateway could only drop it.
func (h *Handler) ServeJoin(ctx context.Context, s *tunnel.JoinStream) {
	e := h.o.Account.Begin(account.WayJoin)
	defer e.End()
	e.Service, e.Cluster, e.Listener = catalog.FederationService(h.o.Cluster), h.o.Cluster, s.RemoteAddr().String()
	address := h.o.Federation()
	if address == "" {
		e.Reason = wire.NoEndpoint.String()
		s.Reset(wire.NoEndpoint)
		return
	}
	dial, cancel := context.WithTimeout(ctx, connectTimeout)
	c, err := h.o.Dial(dial, "tcp", address)
	cancel()
	if err != nil {
		e.Reason, e.Err = wire.Unreachable.String(), err
		s.Reset(wire.Unreachable)
		return
	}
	e.Answered()
	sent, received := e.Counters()
	result := h.o.Splicer.Run(ctx, s, splice.TCP(c), splice.Counters{AB: sent, BA: received}, h.gone(ctx))
	if result.Status != wire.OK {
		e.Reason, e.Err = result.Status.String(), result.Err
	}
}
