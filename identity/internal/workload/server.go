package workload

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	// securityHeader must be sent with each request (Workload API specification,
	// section 3): a browser or a proxy that is tricked into calling cannot set it.
	securityHeader = "workload.spiffe.io"
	// Requests are empty messages; headers hold little more than the one above.
	maxRequestBytes = 4 << 10
	maxHeaderBytes  = 16 << 10
	// maxStreamsPerConn bounds the streams of one connection: a client needs two.
	maxStreamsPerConn = 16
	handshakeTimeout  = 5 * time.Second
)

// Reasons for which a connection or a request is refused.
const (
	RefusedUnattested  = "unattested"  // the kernel did not say who called
	RefusedConnections = "connections" // too many of one user
	RefusedHeader      = "header"      // without the security header, so perhaps by a tricked proxy
	RefusedNoEntry     = "no_entry"    // no entry for that uid
)

// Reasons lists them, for metrics.
func Reasons() []string {
	return []string{RefusedUnattested, RefusedConnections, RefusedHeader, RefusedNoEntry}
}

// Options describe a Server.
type Options struct {
	// View returns what is current.
	View func() View
	// Refused is told of each refused connection and request.
	Refused func(reason string, who Caller, err error)
	// Streams counts the open streams.
	Streams prometheus.Gauge
	// Now is the clock.
	Now func() time.Time
}

// Server serves the Workload API.
type Server struct {
	opts     Options
	grpc     *grpc.Server
	stopping chan struct{}
}

// New returns a Server.
func New(opts Options) *Server {
	s := &Server{opts: opts, stopping: make(chan struct{})}
	s.grpc = grpc.NewServer(
		grpc.Creds(peerCredentials{}),
		grpc.MaxRecvMsgSize(maxRequestBytes),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.MaxConcurrentStreams(maxStreamsPerConn),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.WaitForHandlers(true), // Serve returns after its last handler
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if err := s.checkHeader(ctx); err != nil {
				return nil, err
			}
			return next(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if err := s.checkHeader(stream.Context()); err != nil {
				return err
			}
			opts.Streams.Inc()
			defer opts.Streams.Dec()
			return next(srv, stream)
		}),
	)
	workload.RegisterSpiffeWorkloadAPIServer(s.grpc, api{Server: s})
	return s
}

// Serve answers on l until ctx ends, then closes and removes the socket and
// returns nil. It is called once.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	served := make(chan error, 1)
	go func() {
		served <- s.grpc.Serve(&listener{UnixListener: l, refused: s.opts.Refused, conns: make(map[uint32]int)})
	}()
	var err error
	select {
	case <-ctx.Done():
		close(s.stopping) // handlers say why before their connections go
		s.grpc.Stop()     // waits for them, closes and removes the socket
		// Nil, or that it was stopped before it began: both are what was asked for.
		if err = <-served; errors.Is(err, grpc.ErrServerStopped) {
			err = nil
		}
	case err = <-served:
		close(s.stopping)
		s.grpc.Stop()
		err = fmt.Errorf("workload api: %w", err)
	}
	return err
}

func (s *Server) checkHeader(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	if v := md.Get(securityHeader); len(v) == 1 && v[0] == "true" {
		return nil
	}
	who, _ := callerOf(ctx)
	s.opts.Refused(RefusedHeader, who, nil)
	return status.Error(codes.InvalidArgument, "security header missing from request")
}

// api implements the Workload API.
type api struct {
	workload.UnimplementedSpiffeWorkloadAPIServer // JWT and WIT profiles
	*Server
}

// FetchX509SVID implements the Workload API: every SVID that the caller's uid is
// entitled to, now and after each change, for as long as the caller listens.
func (a api) FetchX509SVID(_ *workload.X509SVIDRequest, stream grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	held := make(map[string]SVID)
	return a.follow(stream.Context(), func(v View, who Caller) (time.Time, error) {
		svids, err := v.SVIDs(stream.Context(), who, held)
		if err != nil || len(svids) == 0 {
			return time.Time{}, err
		}
		resp := &workload.X509SVIDResponse{FederatedBundles: v.Federated()}
		var renew time.Time
		clear(held)
		for _, svid := range svids {
			held[svid.ID] = svid
			if renew.IsZero() || !svid.Renew.IsZero() && svid.Renew.Before(renew) {
				renew = svid.Renew
			}
			resp.Svids = append(resp.Svids, &workload.X509SVID{
				SpiffeId: svid.ID, X509Svid: svid.Certificates, X509SvidKey: svid.Key, Bundle: v.Bundle(), Hint: svid.Hint,
			})
		}
		return renew, stream.Send(resp)
	})
}

// FetchX509Bundles implements the Workload API: the own bundle and the federated
// ones, for callers that are entitled to any SVID.
func (a api) FetchX509Bundles(_ *workload.X509BundlesRequest, stream grpc.ServerStreamingServer[workload.X509BundlesResponse]) error {
	return a.follow(stream.Context(), func(v View, _ Caller) (time.Time, error) {
		resp := &workload.X509BundlesResponse{Bundles: map[string][]byte{v.TrustDomain(): v.Bundle()}}
		maps.Copy(resp.Bundles, v.Federated())
		return time.Time{}, stream.Send(resp)
	})
}

// follow calls send with what is current, then after each change and at the moment
// that send asked for (zero: never), until the caller goes or loses its entries.
func (a api) follow(ctx context.Context, send func(View, Caller) (again time.Time, err error)) error {
	who, ok := callerOf(ctx)
	if !ok {
		return status.Error(codes.Internal, "caller is not attested")
	}
	for {
		v := a.opts.View()
		if !v.Entitled(who.UID) {
			a.opts.Refused(RefusedNoEntry, who, nil)
			return status.Errorf(codes.PermissionDenied, "no identity is registered for uid %d", who.UID)
		}
		again, err := send(v, who)
		if err != nil {
			return err
		}
		var timer *time.Timer
		var due <-chan time.Time
		if !again.IsZero() {
			timer = time.NewTimer(again.Sub(a.opts.Now()))
			due = timer.C
		}
		select {
		case <-v.Replaced():
		case <-due:
		case <-a.stopping:
			// Not Canceled: on that code go-spiffe's clients give up for good.
			err = status.Error(codes.Unavailable, "the workload api is shutting down")
		case <-ctx.Done():
			err = status.FromContextError(ctx.Err()).Err()
		}
		if timer != nil {
			timer.Stop()
		}
		if err != nil {
			return err
		}
	}
}
