package mesh

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/net/netutil"
)

const (
	// maxConns bounds the listener: 200 peers and 256 gateways hold one or two
	// connections each.
	maxConns = 1024
	// headerTimeout bounds the handshake and a request's header.
	headerTimeout = 5 * time.Second
	idleTimeout   = 90 * time.Second
	maxHeader     = 16 << 10
	// maxStreams bounds what one connection may ask for at a time: a gateway
	// holds a table stream and a report, a peer a catalog stream and a few
	// explanations.
	maxStreams = 16
	// The pings of HTTP/2 find connections whose other end has vanished. Peers only
	// listen, so that each is asked each time; one that comes back after three
	// heartbeats that it has missed finds room for its stream before that.
	pingAfter, pingTimeout = 30 * time.Second, 5 * time.Second
	// recheckEvery finds certificates that have expired on live connections.
	recheckEvery = 15 * time.Second
	stopTimeout  = 2 * time.Second
)

// Options configure a Server. Everything but Log and Registerer is required.
type Options struct {
	// Identity authenticates both ends.
	Identity *identity.Source
	// Cluster is the own federation's SPIFFE ID; gateways are Cluster/gateway/NAME.
	Cluster spiffeid.ID
	// Report takes a report whose gateway is who it says. An error refuses it.
	Report func(*route.Report) error
	// Shares answers a report that has been taken with what its gateway may use of
	// budgets that the cluster's gateways share. Nil: there are none.
	Shares func(*route.Report) *route.Shares
	// Ahead is told when a gateway has a table of a higher epoch than ours: the
	// federation has lost its own.
	Ahead func(gateway string, epoch uint64)
	// Exchange serves a configured peer; the handler is the peer's own, and what
	// it is asked came from that peer.
	Exchange func(peer catalog.ClusterName) http.Handler
	// Namesake is told of each refused federation that is called as a peer is; it
	// must not block. Nil: nobody is told.
	Namesake func(peer catalog.ClusterName, id spiffeid.ID)
	// JoinOpen says whether strangers who come to join are listened to, Join serves
	// one of them and closes the connection. Both nil: never.
	JoinOpen func() bool
	Join     func(ctx context.Context, conn *tls.Conn)
	// Log receives the server's log; nil discards it.
	Log *slog.Logger
	// Registerer receives the metrics; nil registers none.
	Registerer prometheus.Registerer
}

// Server answers on the mesh listener.
type Server struct {
	opts    Options
	log     *slog.Logger
	metrics *metrics
	tables  *tables
	roles   *roles
	conns   *conns
	taken   *takeovers
	links   sync.Map // by the name of a gateway, those that it has reported last
}

// New checks the options. Nobody but own gateways is admitted before SetPeers.
func New(opts Options) (*Server, error) {
	if opts.Identity == nil || opts.Cluster.IsZero() || opts.Report == nil || opts.Ahead == nil || opts.Exchange == nil {
		return nil, errors.New("mesh: identity, cluster, report, ahead and exchange are required")
	}
	s := &Server{opts: opts, log: opts.Log, metrics: newMetrics(opts.Registerer), tables: newTables(), roles: newRoles(opts.Cluster), taken: new(takeovers)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.conns = newConns(s.admit, s.metrics)
	return s, nil
}

// SetPeers replaces the peers that may use the exchange. Connections of those
// who are no longer among them are cut before it returns.
func (s *Server) SetPeers(peers map[spiffeid.ID]catalog.ClusterName) {
	s.roles.set(peers)
	s.Recheck()
}

// Recheck judges every live connection anew, and cuts those that would not be
// admitted now.
func (s *Server) Recheck() { s.recheck(true) }

// recheck leaves out, unless of all, those whose certificates have not expired: to
// verify the chains of 200 peers every 15 s is a fifth of what a federation does at
// rest.
func (s *Server) recheck(all bool) {
	for id, reason := range s.conns.recheck(all, time.Now()) {
		s.log.Warn("connection cut", "spiffe_id", id.String(), "reason", reason)
	}
}

// Publish hands a table to every gateway. It encodes once what has changed, and
// does not wait for anybody. The table does not change afterwards.
func (s *Server) Publish(t *route.Edition) error {
	if err := s.tables.publish(t); err != nil {
		return fmt.Errorf("mesh: %w", err)
	}
	return nil
}

// Serve answers on l until ctx ends, and then returns nil. It owns l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		TLSConfig:         s.tlsConfig(),
		Protocols:         httpProtocols(),
		TLSNextProto:      s.joining(ctx),
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnState:         s.conns.state,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams, SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}
	served := make(chan error, 1)
	go func() { served <- srv.ServeTLS(netutil.LimitListener(l, maxConns), "", "") }()
	updates, cancel := s.opts.Identity.Updates()
	defer cancel()
	tick := time.NewTicker(recheckEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-served:
			return fmt.Errorf("mesh: serve %s: %w", l.Addr(), err)
		case <-updates:
			s.Recheck()
			continue
		case <-tick.C:
			s.recheck(false)
			continue
		case <-ctx.Done():
		}
		break
	}
	// Streams end with ctx; what is left after stopTimeout is cut.
	stop, done := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer done()
	if err := srv.Shutdown(stop); err != nil {
		_ = srv.Close()
	}
	s.taken.wait() // they end with ctx, too
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("mesh: serve %s: %w", l.Addr(), err)
	}
	return nil
}
