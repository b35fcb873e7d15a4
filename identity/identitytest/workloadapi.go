package identitytest

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Answer is what a WorkloadAPI says.
type Answer struct {
	// SVIDs are offered in this order; the first is the default.
	SVIDs []*x509svid.SVID
	// Bundles are those of the SVIDs' own domains and of federated ones.
	Bundles []*x509bundle.Bundle
	// Code refuses the request with a gRPC status instead.
	Code codes.Code
	// Silent accepts the request and says nothing, as an agent that hangs.
	Silent bool
}

// WorkloadAPI is a real SPIFFE Workload API server on a Unix socket whose answers
// a test sets. It serves X.509 only.
type WorkloadAPI struct {
	workload.UnimplementedSpiffeWorkloadAPIServer

	tb   testing.TB
	path string

	mu      sync.Mutex
	answer  Answer
	changed chan struct{} // closed and replaced by Set
	streams int
	server  *grpc.Server
	done    chan struct{}
}

// NewWorkloadAPI starts a server that says answer. It stops with the test.
func NewWorkloadAPI(tb testing.TB, answer Answer) *WorkloadAPI {
	tb.Helper()
	// Not tb.TempDir: a Unix socket's path must be shorter than about 100 bytes.
	dir, err := os.MkdirTemp("", "wl")
	if err != nil {
		tb.Fatal(err)
	}
	w := &WorkloadAPI{tb: tb, path: filepath.Join(dir, "api.sock"), answer: answer, changed: make(chan struct{})}
	w.Start()
	tb.Cleanup(func() {
		w.Kill()
		_ = os.RemoveAll(dir)
	})
	return w
}

// Address returns the address for identity.Options.
func (w *WorkloadAPI) Address() string { return "unix://" + w.path }

// Set changes the answer and pushes it to every open stream.
func (w *WorkloadAPI) Set(answer Answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = answer
	close(w.changed)
	w.changed = make(chan struct{})
}

// Streams counts the FetchX509SVID streams that were opened so far.
func (w *WorkloadAPI) Streams() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.streams
}

// Start serves, again after Kill.
func (w *WorkloadAPI) Start() {
	w.tb.Helper()
	_ = os.Remove(w.path)
	l, err := net.Listen("unix", w.path)
	if err != nil {
		w.tb.Fatal(err)
	}
	srv, done := grpc.NewServer(grpc.WaitForHandlers(true)), make(chan struct{})
	workload.RegisterSpiffeWorkloadAPIServer(srv, w)
	w.mu.Lock()
	w.server, w.done = srv, done
	w.mu.Unlock()
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
}

// Kill closes the socket and every connection at once, as kill -9 would.
func (w *WorkloadAPI) Kill() {
	w.mu.Lock()
	srv, done := w.server, w.done
	w.server = nil
	w.mu.Unlock()
	if srv == nil {
		return
	}
	srv.Stop()
	<-done
}

// FetchX509SVID implements the Workload API.
func (w *WorkloadAPI) FetchX509SVID(_ *workload.X509SVIDRequest, stream grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	w.mu.Lock()
	w.streams++
	w.mu.Unlock()
	return w.follow(stream.Context(), func(a Answer) error {
		resp := &workload.X509SVIDResponse{FederatedBundles: make(map[string][]byte)}
		own := make(map[string]bool)
		for _, svid := range a.SVIDs {
			certs, key, err := svid.MarshalRaw()
			if err != nil {
				return err
			}
			own[svid.ID.TrustDomain().IDString()] = true
			resp.Svids = append(resp.Svids, &workload.X509SVID{
				SpiffeId: svid.ID.String(), X509Svid: certs, X509SvidKey: key, Hint: svid.Hint,
				Bundle: a.bundle(svid.ID.TrustDomain().IDString()),
			})
		}
		for _, b := range a.Bundles {
			if id := b.TrustDomain().IDString(); !own[id] {
				resp.FederatedBundles[id] = a.bundle(id)
			}
		}
		return stream.Send(resp)
	})
}

// FetchX509Bundles implements the Workload API.
func (w *WorkloadAPI) FetchX509Bundles(_ *workload.X509BundlesRequest, stream grpc.ServerStreamingServer[workload.X509BundlesResponse]) error {
	return w.follow(stream.Context(), func(a Answer) error {
		resp := &workload.X509BundlesResponse{Bundles: make(map[string][]byte)}
		for _, b := range a.Bundles {
			resp.Bundles[b.TrustDomain().IDString()] = a.bundle(b.TrustDomain().IDString())
		}
		return stream.Send(resp)
	})
}

// follow sends the answer now and after each change.
func (w *WorkloadAPI) follow(ctx context.Context, send func(Answer) error) error {
	if md, _ := metadata.FromIncomingContext(ctx); len(md.Get("workload.spiffe.io")) != 1 {
		return status.Error(codes.InvalidArgument, "security header missing")
	}
	for {
		w.mu.Lock()
		answer, changed := w.answer, w.changed
		w.mu.Unlock()
		if answer.Code != codes.OK {
			return status.Error(answer.Code, "refused by the test")
		}
		if !answer.Silent {
			if err := send(answer); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return status.Error(codes.Unavailable, "server stops")
		}
	}
}

// bundle returns the DER of one trust domain's authorities.
func (a Answer) bundle(tdID string) []byte {
	var der []byte
	for _, b := range a.Bundles {
		if b.TrustDomain().IDString() == tdID {
			for _, c := range b.X509Authorities() {
				der = append(der, c.Raw...)
			}
		}
	}
	return der
}
