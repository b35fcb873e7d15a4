package gateway_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// deadlineWorld has one service in another cluster and one in the own, which are
// reached by name and, the far one, through a TCP listener.
func deadlineWorld(t *testing.T) (near *node, service *testService, ways []string) {
	t.Helper()
	service = &testService{canceled: make(chan struct{}, 100)}
	w := newWorld(t, "alpha", "beta")
	w.cluster("beta").host("far", catalog.GRPC, grpcServer(t, service))
	w.cluster("alpha").host("near", catalog.GRPC, grpcServer(t, service))
	near = w.cluster("alpha").gateway("gw1", "far")
	w.cluster("beta").gateway("gw1")
	w.start()
	return near, service, []string{"far", "near", byTCP}
}

const byTCP = "far by the tcp way"

// message is one of a gRPC body.
func message(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(b))), b...)
}

// TestGRPCDeadlineWithoutTheCallersTimer: a grpc-go caller ends a late call by itself.
// This one only says how much time there is, so that it sees what the gateways and the
// endpoint make of it, whichever of them is first.
func TestGRPCDeadlineWithoutTheCallersTimer(t *testing.T) {
	near, _, ways := deadlineWorld(t)
	question := message(t, &pb.StreamingOutputCallRequest{Payload: payload(10)})
	for _, way := range ways {
		address := near.Addrs().HTTP
		if way == byTCP {
			address = near.Addrs().TCP[0]
		}
		for name, tt := range map[string]struct {
			method string
			body   func() io.Reader
		}{
			"before the answer": {"UnaryCall", func() io.Reader { return bytes.NewReader(message(t, &pb.SimpleRequest{ResponseSize: -1})) }},
			"within the answer": {"FullDuplexCall", func() io.Reader {
				open, w := io.Pipe()
				t.Cleanup(func() { _ = w.Close() })
				return struct {
					io.Reader
					io.Closer
				}{io.MultiReader(bytes.NewReader(question), open), open}
			}},
		} {
			t.Run(way+", "+name, func(t *testing.T) {
				t.Parallel()
				protocols := new(http.Protocols)
				protocols.SetUnencryptedHTTP2(true)
				transport := &http.Transport{Protocols: protocols}
				defer transport.CloseIdleConnections()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				for i := range 3 { // on one connection, which a late call must not cost
					r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address.String()+"/grpc.testing.TestService/"+tt.method, tt.body())
					if err != nil {
						t.Fatal(err)
					}
					r.Host = way + ".default.mesh"
					if way == byTCP {
						r.Host = "anything"
					}
					r.Header.Set("Content-Type", "application/grpc")
					r.Header.Set("Te", "trailers")
					r.Header.Set("Grpc-Timeout", "200m")
					answer, err := transport.RoundTrip(r)
					if err != nil {
						t.Fatalf("call %d: %v", i, err)
					}
					_, err = io.Copy(io.Discard, answer.Body)
					_ = answer.Body.Close()
					if code := answer.Header.Get("Grpc-Status") + answer.Trailer.Get("Grpc-Status"); err != nil || code != "4" {
						t.Fatalf("status %q of %v, trailer %v, %v", code, answer.Header, answer.Trailer, err)
					}
				}
			})
		}
	}
}

// TestACallThatEndsLeavesTheOthersOfItsConnection: what a caller cancels, or has no
// more time for, is one call.
func TestACallThatEndsLeavesTheOthersOfItsConnection(t *testing.T) {
	near, service, ways := deadlineWorld(t)
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			c := stub(t, near, way+".default.mesh")
			if way == byTCP {
				c = stubAt(t, near.Addrs().TCP[0], "anything")
			}
			other, err := c.FullDuplexCall(ctx)
			if err != nil {
				t.Fatal(err)
			}
			turn := func(after string) {
				t.Helper()
				if err := other.Send(&pb.StreamingOutputCallRequest{Payload: payload(10)}); err != nil {
					t.Fatalf("%s: %v", after, err)
				}
				if _, err := other.Recv(); err != nil {
					t.Fatalf("%s: %v", after, err)
				}
			}
			turn("at first")

			for _, end := range []struct {
				by   codes.Code
				call func() (context.Context, context.CancelFunc)
			}{
				{codes.Canceled, func() (context.Context, context.CancelFunc) { return context.WithCancel(ctx) }},
				{codes.DeadlineExceeded, func() (context.Context, context.CancelFunc) {
					return context.WithTimeout(ctx, 300*time.Millisecond)
				}},
			} {
				within, stop := end.call()
				both, err := c.FullDuplexCall(within)
				if err != nil {
					t.Fatal(err)
				}
				if end.by == codes.Canceled {
					if err := both.Send(&pb.StreamingOutputCallRequest{Payload: payload(1)}); err != nil {
						t.Fatal(err)
					}
					if _, err := both.Recv(); err != nil {
						t.Fatal(err)
					}
					stop()
				}
				for err == nil {
					_, err = both.Recv()
				}
				if status.Code(err) != end.by {
					t.Errorf("a stream ended with %v, want %s", err, end.by)
				}
				stop()
				turn("after a stream's end by " + end.by.String())

				within, stop = end.call()
				ended := make(chan error, 1)
				go func() {
					_, err := c.UnaryCall(within, &pb.SimpleRequest{ResponseSize: -1})
					ended <- err
				}()
				if end.by == codes.Canceled {
					time.AfterFunc(100*time.Millisecond, stop) // it may be on its way yet, or there
				}
				if err := <-ended; status.Code(err) != end.by {
					t.Errorf("a call ended with %v, want %s", err, end.by)
				}
				stop()
				turn("after a call's end by " + end.by.String())
			}
			for len(service.canceled) > 0 {
				<-service.canceled
			}
		})
	}
}
