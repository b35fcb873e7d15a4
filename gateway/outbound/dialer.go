package outbound

import (
	"context"
	"errors"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
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

// Options configure a Dialer. All fields are required.
type Options struct {
	Router    *attempt.Router
	Links     Links
	Endpoints *endpoint.Pools
}

// Dialer opens connections to services.
type Dialer struct{ o Options }

// New returns a Dialer.
func New(o Options) (*Dialer, error) {
	if o.Router == nil || o.Links == nil || o.Endpoints == nil {
		return nil, errors.New("outbound: router, links and endpoints are required")
	}
	return &Dialer{o: o}, nil
}

// Request is a connection to open.
type Request struct {
	attempt.Call
	// First are bytes that the caller has sent already; they are copied.
	First []byte
	// TraceParent travels with the stream.
	TraceParent string
}

// Dial opens a connection. ctx bounds its attempts, not its life. The error is
// *attempt.Error.
func (d *Dialer) Dial(ctx context.Context, r Request) (*Conn, error) {
	sequence, err := d.o.Router.Start(r.Call)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	c := &Conn{
		dialer: d, ctx: ctx, cancel: cancel, sequence: sequence, trace: r.TraceParent,
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
}

// carrier is one attempt's connection.
type carrier struct {
	splice.Conn
	attempt *attempt.Attempt
	// stream is set where a far gateway has yet to answer.
	stream *tunnel.Stream
	// sent is how much of the start it was given before it became the current one.
	sent int
}

func (c *carrier) served() Served {
	s := Served{Cluster: c.attempt.Choice.Target.Cluster}
	if c.stream != nil {
		s.Gateway = c.stream.Remote().Gateway
	}
	if e := c.attempt.Choice.Endpoint; e != nil {
		s.Endpoint = e.ID
	}
	return s
}

// open makes the connection of one attempt and gives it the start.
func (d *Dialer) open(ctx context.Context, a *attempt.Attempt, trace string, start []byte) (*carrier, error) {
	if e := a.Choice.Endpoint; e != nil {
		conn, err := d.o.Endpoints.Connect(ctx, e)
		if err != nil {
			return nil, err
		}
		return &carrier{Conn: splice.TCP(conn), attempt: a}, nil
	}
	deadline, _ := ctx.Deadline()
	stream, err := d.o.Links.OpenStream(ctx, string(a.Choice.Target.Cluster), a.Header(trace, deadline), start)
	if err != nil {
		return nil, err
	}
	return &carrier{Conn: stream, attempt: a, stream: stream, sent: len(start)}, nil
}
