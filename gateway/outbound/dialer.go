package outbound

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/endpoint"
	"github.com/isthmus-mesh/isthmus/gateway/splice"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

const (
	// MaxReplay bounds the bytes that are kept until the answer: a far gateway
	// answers within a round trip and a connect, in which few callers send more
	// before they wait.
	MaxReplay = 64 << 10
	// StatusTimeout bounds the wait for a far gateway's answer: its endpoints
	// take a second each to be found unreachable.
	StatusTimeout = 10 * time.Second
)

// Links opens streams to other clusters; *tunnel.Node is one.
type Links interface {
	OpenStream(ctx context.Context, cluster string, h *wire.Header, first []byte) (*tunnel.Stream, error)
}

// HTTPServer serves HTTP on a connection to a service of the own cluster;
// *origin.Handler is one. spare is a connection to e. It does not wait.
type HTTPServer interface {
	ServeLocal(s *splice.PipeConn, call attempt.Call, e *catalog.Endpoint, spare net.Conn) error
}

// Options configure a Dialer. All fields are required.
type Options struct {
	Router    *attempt.Router
	Links     Links
	Endpoints *endpoint.Pools
	// HTTP serves ports of protocol http and grpc of the own cluster, as far
	// gateways do for theirs: the endpoint is told who calls.
	HTTP HTTPServer
}

// Dialer opens connections to services.
type Dialer struct{ o Options }

// New returns a Dialer.
func New(o Options) (*Dialer, error) {
	if o.Router == nil || o.Links == nil || o.Endpoints == nil || o.HTTP == nil {
		return nil, errors.New("outbound: an option is missing")
	}
	return &Dialer{o: o}, nil
}

// Request is a connection to open.
type Request struct {
	attempt.Call
	// First are bytes that the caller has sent already; they are copied.
	First []byte
	// Own says that First is HTTP that this gateway wrote, with the caller in it, and
	// that another protocol follows.
	Own bool
	// TraceParent travels with the stream.
	TraceParent string
	// Started, if set, is given the attempts of the call, before the first of them.
	Started func(*attempt.Sequence)
}

// Dial opens a connection. ctx bounds its attempts, not its life. The error is
// *attempt.Error.
func (d *Dialer) Dial(ctx context.Context, r Request) (*Conn, error) {
	sequence, err := d.o.Router.Start(r.Call)
	if err != nil {
		return nil, err
	}
	if r.Started != nil {
		r.Started(sequence)
	}
	ctx, cancel := context.WithCancel(ctx)
	c := &Conn{
		dialer: d, ctx: ctx, cancel: cancel, sequence: sequence, request: r,
		start: append(make([]byte, 0, len(r.First)), r.First...), settledCh: make(chan struct{}),
	}
	if err := c.advance(); err != nil {
		cancel()
		return nil, err
	}
	return c, nil
}

// Served says who serves a connection.
type Served struct {
	Cluster           catalog.ClusterName
	Gateway, Endpoint string
	// Price is what its bytes cost.
	Price route.Price
}

// carrier is one attempt's connection.
type carrier struct {
	splice.Conn
	attempt *attempt.Attempt
	// stream is set where a far gateway has yet to answer.
	stream *tunnel.Stream
	// served says that HTTP is served on it, each request with attempts of its own.
	served bool
	// sent is how much of the start it was given before it became the current one.
	sent int
}

func (c *carrier) who() Served {
	s := Served{Cluster: c.attempt.Choice.Target.Cluster, Price: c.attempt.Choice.Price()}
	if c.stream != nil {
		s.Gateway = c.stream.Remote().Gateway
	}
	if e := c.attempt.Choice.Endpoint; e != nil {
		s.Endpoint = e.ID
	}
	return s
}

// open makes the connection of one attempt and gives it the start.
func (d *Dialer) open(ctx context.Context, a *attempt.Attempt, r *Request, start []byte) (*carrier, error) {
	if a.Choice.Endpoint != nil {
		return d.openLocal(ctx, a, r)
	}
	deadline, _ := ctx.Deadline()
	stream, err := d.o.Links.OpenStream(ctx, string(a.Choice.Target.Cluster), a.Header(r.TraceParent, deadline), start)
	if err != nil {
		return nil, err
	}
	return &carrier{Conn: stream, attempt: a, stream: stream, sent: len(start)}, nil
}

func (d *Dialer) openLocal(ctx context.Context, a *attempt.Attempt, r *Request) (*carrier, error) {
	e := a.Choice.Endpoint
	conn, err := d.o.Endpoints.Connect(ctx, e)
	if err != nil {
		return nil, err
	}
	switch a.Choice.Port.Protocol {
	case catalog.HTTP, catalog.GRPC:
		if r.Own {
			break
		}
		ours, theirs := splice.Pipe()
		call := r.Call
		call.Port = a.Choice.Port.Name
		if err := d.o.HTTP.ServeLocal(theirs, call, e, conn); err != nil {
			return nil, err
		}
		return &carrier{Conn: ours, attempt: a, served: true}, nil
	case catalog.TCP, catalog.TLS, catalog.UDP:
	}
	return &carrier{Conn: splice.TCP(conn), attempt: a}, nil
}
