package control

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/gateway/account"
	"github.com/isthmus-mesh/isthmus/gateway/serverlog"
	"github.com/isthmus-mesh/isthmus/gateway/splice"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	// headerTimeout bounds the handshake and the request's head.
	headerTimeout = 5 * time.Second
	// statusTimeout bounds the far gateway's answer.
	statusTimeout = 5 * time.Second
	// maxHeader is ample for a CONNECT.
	maxHeader = 8 << 10
)

// CallsPath is where the own federation asks for calls that were kept.
const CallsPath = "/v1/calls"

// Links opens streams to other clusters; *tunnel.Node is one.
type Links interface {
	OpenStream(ctx context.Context, cluster string, h *wire.Header, first []byte) (*tunnel.Stream, error)
}

// Options configure a Server. All fields but Log are required.
type Options struct {
	// Listener is what connections come from (accept.Listener).
	Listener net.Listener
	Identity *identity.Source
	// Federation is the own federation's SPIFFE ID; zero admits nobody.
	Federation func() spiffeid.ID
	// Cluster is the own one.
	Cluster catalog.ClusterName
	Links   Links
	// Joins reaches clusters that have invited the own one; nil reaches none.
	Joins Joins
	// Trails answers questions for calls that were kept; nil: there are none.
	Trails  http.Handler
	Splicer *splice.Splicer
	Account *account.Account
	Log     *slog.Logger
}

// Server serves the control listener.
type Server struct {
	o        Options
	server   *http.Server
	serving  context.Context
	requests sync.WaitGroup
}

// New returns a Server. It serves nothing before Run.
func New(o Options) (*Server, error) {
	if o.Listener == nil || o.Identity == nil || o.Federation == nil || o.Cluster == "" || o.Links == nil || o.Splicer == nil || o.Account == nil {
		return nil, errors.New("control: an option is missing")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{o: o}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	s.server = &http.Server{
		Handler: s, Protocols: protocols, ReadHeaderTimeout: headerTimeout, MaxHeaderBytes: maxHeader,
		IdleTimeout: time.Minute, ErrorLog: serverlog.New(o.Log, "control server"), DisableGeneralOptionsHandler: true,
	}
	return s, nil
}

// Run serves until ctx ends, which resets the streams that are open. It returns
// an error only if serving failed by itself.
func (s *Server) Run(ctx context.Context) error {
	s.serving = ctx
	admit := identity.AuthorizeFunc(func(id spiffeid.ID) bool {
		own := s.o.Federation()
		return !own.IsZero() && id == own
	})
	l := tls.NewListener(s.o.Listener, s.o.Identity.ServerTLS([]string{"http/1.1"}, admit))
	stop := context.AfterFunc(ctx, func() { _ = s.server.Close() })
	defer stop()
	err := s.server.Serve(l)
	_ = s.server.Close()
	s.requests.Wait()
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Refusal is the body of an answer other than 200.
type Refusal struct {
	Reason  string `json:"reason"`
	Message string `json:"message,omitempty"`
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	defer s.requests.Done()
	if cluster, ok := joinTarget(r.Host); ok && s.o.Joins != nil && r.Method == http.MethodConnect {
		s.serveJoin(w, r, cluster)
		return
	}
	e := s.o.Account.Begin(account.WayControl)
	defer e.End()
	e.Caller = s.o.Federation().String()
	refuse := func(status int, reason string, err error) {
		e.Reason, e.Status, e.Err = reason, status, err
		refuseWith(w, status, reason, err)
	}
	if r.Method == http.MethodGet && r.URL.Path == CallsPath && s.o.Trails != nil {
		e.Answered()
		s.o.Trails.ServeHTTP(w, r)
		return
	}
	if r.Method != http.MethodConnect {
		refuse(http.StatusMethodNotAllowed, "method_not_allowed", nil)
		return
	}
	cluster, ok := target(r.Host)
	if !ok || cluster == s.o.Cluster {
		refuse(http.StatusForbidden, "target_not_allowed", nil)
		return
	}
	e.Service, e.Cluster = catalog.FederationService(cluster), cluster
	stream, err := s.open(r.Context(), cluster)
	if err != nil {
		status, reason := statusOf(err)
		refuse(status, reason, err)
		return
	}
	e.Gateway = stream.Remote().Gateway
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		stream.Reset(wire.Internal)
		refuse(http.StatusInternalServerError, wire.Internal.String(), err)
		return
	}
	_ = conn.SetDeadline(time.Time{}) // the server's timeouts are not the stream's
	if _, err := conn.Write([]byte("HTTP/1.1 200 OK\r\n\r\n")); err != nil {
		stream.Reset(wire.Canceled)
		_ = conn.Close() // it is gone
		e.Reason, e.Err = wire.Canceled.String(), err
		return
	}
	e.Answered()
	e.Status = http.StatusOK
	sent, received := e.Counters()
	near := splice.Resume(splice.TCP(conn), rw.Reader)
	result := s.o.Splicer.Run(s.serving, near, stream, splice.Counters{AB: sent, BA: received}, func() wire.Status { return wire.Draining })
	if result.Status != wire.OK {
		e.Reason, e.Err = result.Status.String(), result.Err
	}
}

// open opens the stream and waits for the far gateway's word, so that a CONNECT
// that was granted leads somewhere.
func (s *Server) open(ctx context.Context, cluster catalog.ClusterName) (*tunnel.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	stream, err := s.o.Links.OpenStream(ctx, string(cluster), &wire.Header{
		Service: catalog.FederationService(cluster).String(), Caller: s.o.Federation().String(), Assurance: wire.AssuranceMTLS,
	}, nil)
	if err != nil {
		return nil, err
	}
	reply, err := stream.Status(ctx)
	if err == nil && reply.Status != wire.OK {
		err = &tunnel.RefusedError{Cluster: string(cluster), Gateway: stream.Remote().Gateway, Status: reply.Status, Message: reply.Message}
	}
	if err != nil {
		stream.Reset(wire.Canceled)
		return nil, err
	}
	return stream, nil
}

// target reads "federation.CLUSTER:443".
func target(host string) (catalog.ClusterName, bool) {
	name, ok := strings.CutSuffix(host, ":443")
	if !ok {
		return "", false
	}
	name, ok = strings.CutPrefix(name, "federation.")
	if !ok {
		return "", false
	}
	cluster, err := catalog.ParseClusterName(name)
	return cluster, err == nil
}

func statusOf(err error) (int, string) {
	if e, ok := errors.AsType[*tunnel.RefusedError](err); ok {
		if e.Status == wire.Denied {
			return http.StatusForbidden, e.Status.String()
		}
		return http.StatusServiceUnavailable, e.Status.String()
	}
	if e, ok := errors.AsType[*tunnel.LinkError](err); ok {
		return http.StatusServiceUnavailable, e.Status.String()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return http.StatusGatewayTimeout, wire.DeadlineExceeded.String()
	}
	return http.StatusBadGateway, wire.Reset.String()
}

func refuseWith(w http.ResponseWriter, status int, reason string, err error) {
	refusal := Refusal{Reason: reason}
	if err != nil {
		refusal.Message = err.Error()
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Connection", "close")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(refusal) // the federation is gone, or has it
}
