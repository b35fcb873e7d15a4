package datagram

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/endpoint"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

const (
	// DefaultIdleTimeout ends a flow on which nothing moved: longer than what applications
	// and NATs keep, so that it is not the mesh that forgets first.
	DefaultIdleTimeout = time.Minute
	// FarIdleTimeout is the far end's, which follows the near one: it only catches what that
	// one forgot.
	FarIdleTimeout = time.Hour
	// QuietTime is the silence in which a flow is ended without anybody's loss when there is
	// a reason to: whoever serves it leaves.
	QuietTime = 2 * time.Second
	// keepDatagrams, keepBytes and keepTime bound what is kept until an answer: the first
	// flight of a handshake, and the time in which a refusal comes. A flow that nobody
	// answers in that time is one-way, as logs and metrics are, and stays where it is.
	keepDatagrams = 16
	keepBytes     = 24 << 10
	keepTime      = 2 * time.Second
	// statusTimeout bounds the wait for a far gateway's answer.
	statusTimeout = 10 * time.Second
)

// ErrIdle is the cause of the end of a flow on which nothing moved.
var ErrIdle = errors.New("nothing moved for the idle timeout")

// Links opens flows to other clusters; *tunnel.Node is one.
type Links interface {
	OpenFlow(ctx context.Context, cluster string, h *wire.Header, first [][]byte, deliver tunnel.Deliver) (*tunnel.Flow, error)
}

// Carrier opens flows.
type Carrier struct {
	// Links is needed where flows go to other clusters.
	Links Links
	// Endpoints and Metrics are required.
	Endpoints *endpoint.Pools
	Metrics   *Metrics
}

// Options are a flow's. Sequence, Deliver and Idle are required.
type Options struct {
	// Sequence are the attempts of the call.
	Sequence *attempt.Sequence
	// Way is the way in, for metrics; TraceParent travels with the stream.
	Way, TraceParent string
	// Deliver takes what the service sends, under tunnel.Deliver's conditions.
	Deliver tunnel.Deliver
	// Opened is called once, when the flow has somewhere to go; its error ends the flow. At
	// the near end that is the far gateway's word, or the first answer of an own endpoint,
	// where answered is true; at the far end an endpoint that can be sent to. Nil: nobody is
	// told.
	Opened func(a *attempt.Attempt, served Served) error
	// Early says that Opened does not wait for an own endpoint's answer.
	Early bool
	// Idle is the longest silence.
	Idle time.Duration
}

// Served says who serves a flow.
type Served struct {
	Cluster           catalog.ClusterName
	Gateway, Endpoint string
}

// leg is where a flow's datagrams go at the moment.
type leg interface {
	// send sends one, or drops it; what ends the flow is seen by who receives.
	send(p []byte)
	// end ends the leg, with a reason for the other end; receiving ends, too.
	end(status wire.Status)
}

// farLeg is a flow over a link.
type farLeg struct{ flow *tunnel.Flow }

func (l *farLeg) send(p []byte) { _ = l.flow.Send(p) }

func (l *farLeg) end(status wire.Status) {
	if status == wire.OK || status == wire.Idle {
		_ = l.flow.Close() // the end that every flow has
		return
	}
	l.flow.Reset(status)
}

// nearLeg is a socket that is connected to an own endpoint.
type nearLeg struct {
	conn    net.Conn
	metrics *Metrics
	way     string
	failed  chan error // has room for one
}

func (l *nearLeg) send(p []byte) {
	_, err := l.conn.Write(p)
	switch {
	case err == nil || errors.Is(err, net.ErrClosed):
	case unreachable(err):
		// The system tells it once, to who asks first, and of a datagram before this one.
		select {
		case l.failed <- err:
		default:
		}
		_ = l.conn.SetReadDeadline(time.Unix(1, 0))
	default:
		l.metrics.Drop(l.way, DropSocket)
	}
}

func (l *nearLeg) end(wire.Status) { _ = l.conn.Close() }
