package ca

import (
	"context"
	"maps"
	"math/rand/v2"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
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
	// SVIDs are renewed at a random moment between these fractions of their life, so
	// that the processes of a host do not renew in step. Half is the latest: consumers
	// raise an alarm soon after it.
	renewFrom, renewTo = 0.4, 0.5
	// minRenew keeps a root at its very end, whose SVIDs have no life left, from
	// issuing in a hot loop.
	minRenew = 200 * time.Millisecond
)

// api implements the Workload API on a CA.
type api struct {
	workload.UnimplementedSpiffeWorkloadAPIServer // JWT and WIT profiles
	ca                                            *CA
}

func newServer(ca *CA) *grpc.Server {
	srv := grpc.NewServer(
		grpc.Creds(peerCredentials{}),
		grpc.MaxRecvMsgSize(maxRequestBytes),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.MaxConcurrentStreams(maxStreamsPerConn),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.WaitForHandlers(true), // Run returns after its last handler
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if err := ca.checkHeader(ctx); err != nil {
				return nil, err
			}
			return next(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(s any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if err := ca.checkHeader(stream.Context()); err != nil {
				return err
			}
			ca.metrics.streams.Inc()
			defer ca.metrics.streams.Dec()
			return next(s, stream)
		}),
	)
	workload.RegisterSpiffeWorkloadAPIServer(srv, api{ca: ca})
	return srv
}

func (c *CA) checkHeader(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	if v := md.Get(securityHeader); len(v) == 1 && v[0] == "true" {
		return nil
	}
	who, _ := callerOf(ctx)
	c.refused(refusedHeader, who, nil)
	return status.Error(codes.InvalidArgument, "security header missing from request")
}

// FetchX509SVID implements the Workload API: every SVID that the caller's uid is
// entitled to, now and after each change, for as long as the caller listens.
func (a api) FetchX509SVID(_ *workload.X509SVIDRequest, stream grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	held := make(map[spiffeid.ID]issued)
	return a.follow(stream.Context(), func(v *view, mine []Entry) (time.Time, error) {
		resp := &workload.X509SVIDResponse{FederatedBundles: v.federated}
		var renew time.Time
		next := make(map[spiffeid.ID]issued, len(mine))
		for _, e := range mine {
			svid, ok := held[e.ID]
			if now := a.ca.now(); !ok || !now.Before(svid.renew) {
				var err error
				if svid, err = a.ca.issue(stream.Context(), v, e.ID, now); err != nil {
					return renew, err
				}
			}
			next[e.ID] = svid
			if renew.IsZero() || svid.renew.Before(renew) {
				renew = svid.renew
			}
			resp.Svids = append(resp.Svids, &workload.X509SVID{
				SpiffeId: e.ID.String(), X509Svid: svid.certs, X509SvidKey: svid.key, Bundle: v.bundle, Hint: e.Hint,
			})
		}
		held = next
		return renew, stream.Send(resp)
	})
}

// FetchX509Bundles implements the Workload API: the own bundle and the federated
// ones, for callers that are entitled to any SVID.
func (a api) FetchX509Bundles(_ *workload.X509BundlesRequest, stream grpc.ServerStreamingServer[workload.X509BundlesResponse]) error {
	return a.follow(stream.Context(), func(v *view, _ []Entry) (time.Time, error) {
		resp := &workload.X509BundlesResponse{Bundles: map[string][]byte{a.ca.cfg.TrustDomain.IDString(): v.bundle}}
		maps.Copy(resp.Bundles, v.federated)
		return time.Time{}, stream.Send(resp)
	})
}

// follow calls send with what is current, then after each change and at the moment
// that send asked for (zero: never), until the caller goes or loses its entries.
func (a api) follow(ctx context.Context, send func(*view, []Entry) (again time.Time, err error)) error {
	who, ok := callerOf(ctx)
	if !ok {
		return status.Error(codes.Internal, "caller is not attested")
	}
	for {
		v := a.ca.view.Load()
		mine := entitled(v.entries, who.uid, a.ca.uid)
		if len(mine) == 0 {
			a.ca.refused(refusedNoEntry, who, nil)
			return status.Errorf(codes.PermissionDenied, "no identity is registered for uid %d", who.uid)
		}
		again, err := send(v, mine)
		if err != nil {
			return err
		}
		var timer *time.Timer
		var due <-chan time.Time
		if !again.IsZero() {
			timer = time.NewTimer(again.Sub(a.ca.now()))
			due = timer.C
		}
		select {
		case <-v.replaced:
		case <-due:
		case <-a.ca.stopping:
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

// issued is an SVID in the form in which it is sent, and when to renew it.
type issued struct {
	certs, key []byte
	renew      time.Time
}

func (c *CA) issue(ctx context.Context, v *view, id spiffeid.ID, now time.Time) (issued, error) {
	svid, err := v.roots.mint(id, now, c.cfg.SVIDTTL)
	if err != nil {
		c.log.Error("svid not issued", "spiffe_id", id.String(), "err", err)
		return issued{}, status.Error(codes.Internal, "svid could not be issued")
	}
	certs, key, err := svid.MarshalRaw()
	if err != nil {
		c.log.Error("svid not issued", "spiffe_id", id.String(), "err", err)
		return issued{}, status.Error(codes.Internal, "svid could not be issued")
	}
	c.metrics.issued.Inc()
	who, _ := callerOf(ctx)
	life := svid.Certificates[0].NotAfter.Sub(now)
	c.log.Info("svid issued", "spiffe_id", id.String(), "pid", who.pid, "version", svid.Certificates[0].SerialNumber.Text(16), "duration", life)
	return issued{certs: certs, key: key, renew: now.Add(renewAfter(life, rand.Float64()))}, nil
}

// renewAfter picks the moment of renewal in a life; r is uniform in [0, 1).
func renewAfter(life time.Duration, r float64) time.Duration {
	return max(minRenew, time.Duration(float64(life)*(renewFrom+(renewTo-renewFrom)*r)))
}
