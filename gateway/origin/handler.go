package origin

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/account"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/datagram"
	"github.com/isthmus-mesh/isthmus/gateway/endpoint"
	"github.com/isthmus-mesh/isthmus/gateway/flow/fair"
	"github.com/isthmus-mesh/isthmus/gateway/relay"
	"github.com/isthmus-mesh/isthmus/gateway/splice"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// Options configure a Handler. All fields but Dial and Log are required.
type Options struct {
	// Cluster is the own one.
	Cluster catalog.ClusterName
	// Identity is the gateway's own SPIFFE ID, "" while it has none.
	Identity  func() string
	Router    *attempt.Router
	Endpoints *endpoint.Pools
	Splicer   *splice.Splicer
	// Flows carries flows of datagrams.
	Flows   *datagram.Carrier
	Account *account.Account
	// Federation is the host:port of the own federation's mesh listener, "" if it
	// is not known.
	Federation func() string
	// Joining says whether a cluster is invited, so that strangers are led to the
	// own federation; nil is never.
	Joining func() bool
	// Peers shares the streams and requests in progress between the peers; nil shares
	// nothing.
	Peers *fair.Gate
	// Report takes the load reports of peers' gateways.
	Report func(cluster catalog.ClusterName, gateway string, r wire.Report)
	// Load takes their loads; nil ignores them.
	Load func(cluster catalog.ClusterName, gateway string, l wire.Load)
	// Dial connects to the federation; nil is a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	Log  *slog.Logger
}

// Handler serves peers' streams and requests. It is a tunnel.Handler.
type Handler struct {
	o       Options
	proxy   http.Handler
	server  *http.Server
	streams *streamListener
	// talking ends when the federations must stop talking through this gateway.
	talking context.Context
	silence context.CancelFunc
	talks   atomic.Int64
}

var _ tunnel.Handler = (*Handler)(nil)

// New returns a Handler. Its server of plain streams to HTTP ports begins with
// Run.
func New(o Options) (*Handler, error) {
	if o.Cluster == "" || o.Identity == nil || o.Router == nil || o.Endpoints == nil || o.Splicer == nil || o.Flows == nil ||
		o.Account == nil || o.Federation == nil || o.Report == nil {
		return nil, errors.New("origin: an option is missing")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	h := &Handler{o: o, streams: newStreamListener()}
	h.talking, h.silence = context.WithCancel(context.Background())
	h.proxy = relay.NewProxy(relay.ProxyOptions{Transport: h, Rewrite: rewrite, Failed: h.answerFailure, Log: o.Log})
	h.server = h.newServer()
	return h, nil
}

// HandleReport implements tunnel.Handler.
func (h *Handler) HandleReport(from tunnel.Remote, r wire.Report) {
	h.o.Report(catalog.ClusterName(from.Cluster), from.Gateway, r)
}

// HandleLoad implements tunnel.Handler.
func (h *Handler) HandleLoad(from tunnel.Remote, l wire.Load) {
	if h.o.Load != nil {
		h.o.Load(catalog.ClusterName(from.Cluster), from.Gateway, l)
	}
}

// EndFederation resets the streams to the own federation: its watches never end by
// themselves, and their other ends come back through another gateway.
func (h *Handler) EndFederation() { h.silence() }

// Federations is how many streams to the own federation are open.
func (h *Handler) Federations() int64 { return h.talks.Load() }

// facts are what is known of a call before its service is asked.
type facts struct {
	peer    catalog.ClusterName
	gateway string
	header  wire.Header
	// stream is set for a request in a plain stream: its fields are the caller's
	// own, not a gateway's.
	stream *streamConn
	// local says that the caller is of this cluster, source what its address is.
	local  bool
	source string
	// first is an attempt that has its connection already, spare a connection
	// without one.
	first *opened
	spare *endpoint.Spare
}

// start judges a call and begins its entry; request is nil of a stream. The error has
// been entered.
func (h *Handler) start(way string, f *facts, request *policy.HTTPRequest) (*account.Entry, *attempt.Sequence, error) {
	e := h.o.Account.Begin(way)
	e.Peer, e.Gateway, e.Caller, e.Cluster = f.peer, f.gateway, f.header.Caller, h.o.Cluster
	e.Trace, _ = wire.ParseTraceParent(f.header.TraceParent)
	name, err := catalog.ParseServiceName(f.header.Service)
	if err != nil || name.String() != f.header.Service {
		// Two spellings of one name would be two answers of two parsers.
		err = &attempt.Error{Reason: wire.UnknownService.String()}
	} else {
		e.Service, e.Port = name, f.header.Port
	}
	var sequence *attempt.Sequence
	call := attempt.Call{
		Service: name, Port: f.header.Port, Caller: f.header.Caller, HTTP: request, Assurance: f.header.Assurance, Priority: route.Priority(f.header.Priority),
		Source: f.source, Subset: f.header.Subset, Hash: f.header.Hash,
	}
	switch {
	case err != nil:
	case f.local:
		call.Pin = h.o.Cluster
		sequence, err = h.o.Router.Start(call)
	default:
		sequence, err = h.o.Router.StartInbound(call, f.peer)
	}
	if err != nil {
		e.Reason, e.Err = reasonOf(err), err
	}
	return e, sequence, err
}

// place takes one of the places that the peers share, for a stream or request of a
// service; those of the federations go through always. The error is *attempt.Error and
// has been entered; leave must be called otherwise.
func (h *Handler) place(ctx context.Context, f *facts, e *account.Entry) (leave func(), err error) {
	if h.o.Peers == nil || f.local || f.stream != nil || e.Service.IsFederation() {
		return func() {}, nil
	}
	ticket, reason := h.o.Peers.Enter(ctx, string(f.peer), 0)
	if reason == fair.Granted {
		return ticket.Leave, nil
	}
	err = &attempt.Error{
		Reason: wire.Overloaded.String(), Service: e.Service, Status: wire.Overloaded, Undelivered: true,
		Limit: attempt.Overload, RetryAfter: placeRetryAfter,
	}
	e.Reason, e.Err = wire.Overloaded.String(), err
	return nil, err
}

// placeRetryAfter is how long a peer is told to stay away that has all the places that
// it may have.
const placeRetryAfter = time.Second

func reasonOf(err error) string {
	if failed, ok := errors.AsType[*attempt.Error](err); ok {
		return failed.Reason
	}
	return wire.Internal.String()
}

func replyOf(err error) wire.Reply {
	if failed, ok := errors.AsType[*attempt.Error](err); ok {
		return ReplyTo(failed)
	}
	return wire.Reply{Status: wire.Internal}
}

// withDeadline bounds ctx by what the caller has left.
func withDeadline(ctx context.Context, h *wire.Header) (context.Context, context.CancelFunc) {
	if h.Deadline > 0 {
		return context.WithTimeout(ctx, h.Deadline)
	}
	return context.WithCancel(ctx)
}

// connectTimeout bounds the connection to the federation.
const connectTimeout = time.Second
