package gateway_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// testService is a real grpc-go service.
type testService struct {
	pb.UnimplementedTestServiceServer
	canceled chan struct{}
}

func payload(n int) *pb.Payload { return &pb.Payload{Body: make([]byte, n)} }

func (s *testService) UnaryCall(ctx context.Context, r *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-trailer", "late"))
	if st := r.GetResponseStatus(); st.GetCode() != 0 {
		return nil, status.Error(codes.Code(st.GetCode()), st.GetMessage())
	}
	if r.GetResponseSize() < 0 {
		<-ctx.Done()
		s.canceled <- struct{}{}
		return nil, ctx.Err()
	}
	caller := ""
	if v := md.Get("x-forwarded-client-cert"); len(v) == 1 {
		caller = v[0]
	}
	return &pb.SimpleResponse{Payload: payload(int(r.GetResponseSize())), Username: caller}, nil
}

func (s *testService) StreamingOutputCall(r *pb.StreamingOutputCallRequest, out grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error {
	for _, p := range r.GetResponseParameters() {
		if err := out.Send(&pb.StreamingOutputCallResponse{Payload: payload(int(p.GetSize()))}); err != nil {
			return err
		}
	}
	return status.Error(codes.ResourceExhausted, "that was all")
}

func (s *testService) StreamingInputCall(in grpc.ClientStreamingServer[pb.StreamingInputCallRequest, pb.StreamingInputCallResponse]) error {
	sum := 0
	for {
		r, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return in.SendAndClose(&pb.StreamingInputCallResponse{AggregatedPayloadSize: int32(sum)})
		}
		if err != nil {
			return err
		}
		sum += len(r.GetPayload().GetBody())
	}
}

func (s *testService) FullDuplexCall(both grpc.BidiStreamingServer[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse]) error {
	for {
		r, err := both.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := both.Send(&pb.StreamingOutputCallResponse{Payload: r.GetPayload()}); err != nil {
			return err
		}
	}
}

// grpcServer runs a real server and returns its address.
func grpcServer(t *testing.T, s *testService) net.Addr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pb.RegisterTestServiceServer(server, s)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-done })
	return l.Addr()
}

// stub is a real client whose authority is a name of the mesh.
func stub(t *testing.T, n *node, authority string) pb.TestServiceClient {
	t.Helper()
	return stubAt(t, n.Addrs().HTTP, authority)
}

func stubAt(t *testing.T, address netip.AddrPort, authority string) pb.TestServiceClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address.String(), grpc.WithAuthority(authority), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return pb.NewTestServiceClient(conn)
}

func TestGRPC(t *testing.T) {
	service := &testService{canceled: make(chan struct{}, 1)}
	w := newWorld(t, "alpha", "beta")
	w.cluster("beta").host("far", catalog.GRPC, grpcServer(t, service))
	w.cluster("alpha").host("near", catalog.GRPC, grpcServer(t, service))
	near := w.cluster("alpha").gateway("gw1", "far")
	w.cluster("beta").gateway("gw1")
	w.start()
	by := map[string]string{"far": w.cluster("beta").id(), "near": w.cluster("alpha").id(), "far by the tcp way": w.cluster("beta").id()}
	for _, where := range []string{"far", "near", "far by the tcp way"} {
		t.Run(where, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			c := stub(t, near, where+".default.mesh")
			if where == "far by the tcp way" {
				c = stubAt(t, near.Addrs().TCP[0], "anything")
			}

			var header, trailer metadata.MD
			spoofed := metadata.AppendToOutgoingContext(ctx, "x-forwarded-client-cert", "URI=spiffe://beta.test/root")
			r, err := c.UnaryCall(spoofed, &pb.SimpleRequest{ResponseSize: 300_000, Payload: payload(300_000)}, grpc.Header(&header), grpc.Trailer(&trailer))
			if err != nil || len(r.GetPayload().GetBody()) != 300_000 || r.GetUsername() != "By="+by[where]+"/gateway/gw1;URI="+w.cluster("alpha").caller() {
				t.Fatalf("unary: %v, caller %q", err, r.GetUsername())
			}
			if v := trailer.Get("x-trailer"); len(v) != 1 || v[0] != "late" {
				t.Errorf("trailer: %v", trailer)
			}

			_, err = c.UnaryCall(ctx, &pb.SimpleRequest{ResponseStatus: &pb.EchoStatus{Code: int32(codes.FailedPrecondition), Message: "not \u00fc now\n"}}, grpc.Trailer(&trailer))
			if s := status.Convert(err); s.Code() != codes.FailedPrecondition || s.Message() != "not \u00fc now\n" || len(trailer.Get("x-trailer")) != 1 {
				t.Errorf("error trailer: %v, %v", err, trailer)
			}

			out, err := c.StreamingOutputCall(ctx, &pb.StreamingOutputCallRequest{ResponseParameters: []*pb.ResponseParameters{{Size: 1}, {Size: 100_000}, {Size: 0}}})
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []int{1, 100_000, 0} {
				if r, err := out.Recv(); err != nil || len(r.GetPayload().GetBody()) != want {
					t.Fatalf("server streaming: %v", err)
				}
			}
			if _, err := out.Recv(); status.Code(err) != codes.ResourceExhausted {
				t.Errorf("server streaming ended with %v", err)
			}

			in, err := c.StreamingInputCall(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for range 50 {
				if err := in.Send(&pb.StreamingInputCallRequest{Payload: payload(10_000)}); err != nil {
					t.Fatal(err)
				}
			}
			if r, err := in.CloseAndRecv(); err != nil || r.GetAggregatedPayloadSize() != 500_000 {
				t.Errorf("client streaming: %d, %v", r.GetAggregatedPayloadSize(), err)
			}

			both, err := c.FullDuplexCall(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 100 { // each answer before the next question: really both ways at once
				if err := both.Send(&pb.StreamingOutputCallRequest{Payload: payload(i * 100)}); err != nil {
					t.Fatal(err)
				}
				if r, err := both.Recv(); err != nil || len(r.GetPayload().GetBody()) != i*100 {
					t.Fatalf("bidirectional: %v", err)
				}
			}
			_ = both.CloseSend()
			if _, err := both.Recv(); !errors.Is(err, io.EOF) {
				t.Errorf("bidirectional ended with %v", err)
			}

			short, cancelShort := context.WithTimeout(ctx, 200*time.Millisecond)
			defer cancelShort()
			if _, err := c.UnaryCall(short, &pb.SimpleRequest{ResponseSize: -1}); status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("deadline: %v", err)
			}
			select {
			case <-service.canceled:
			case <-ctx.Done():
				t.Error("the service did not learn of the deadline")
			}
		})
	}
}

func TestGRPCOfTheGatewaysOwnAnswers(t *testing.T) {
	w := newWorld(t, "alpha", "beta")
	w.cluster("beta").host("gone", catalog.GRPC, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1})
	near := w.cluster("alpha").gateway("gw1")
	w.cluster("beta").gateway("gw1")
	w.start()
	for authority, want := range map[string]codes.Code{
		"gone.default.mesh": codes.Unavailable, "nobody.default.mesh": codes.Unimplemented, "federation.beta.mesh": codes.PermissionDenied,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		_, err := stub(t, near, authority).UnaryCall(ctx, &pb.SimpleRequest{})
		cancel()
		if s := status.Convert(err); s.Code() != want || s.Message() == "" {
			t.Errorf("%s: %v, want %s", authority, err, want)
		}
	}
}

// TestGRPCOverARate: the status of gRPC's own, and when to come again, for a client that
// retries by itself.
func TestGRPCOverARate(t *testing.T) {
	w := newWorld(t, "alpha", "beta")
	w.cluster("beta").host("far", catalog.GRPC, grpcServer(t, new(testService)))
	w.cluster("beta").limit("far", slowly(1))
	near := w.cluster("alpha").gateway("gw1")
	w.cluster("beta").gateway("gw1")
	w.start()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	c := stub(t, near, "far.default.mesh")
	if _, err := c.UnaryCall(ctx, new(pb.SimpleRequest)); err != nil {
		t.Fatal(err)
	}
	var trailer metadata.MD
	_, err := c.UnaryCall(ctx, new(pb.SimpleRequest), grpc.Trailer(&trailer))
	if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "rate_limited") {
		t.Errorf("over the rate: %v", err)
	}
	if v := trailer.Get("grpc-retry-pushback-ms"); len(v) != 1 || len(v[0]) < 4 || len(v[0]) > 5 {
		t.Errorf("grpc-retry-pushback-ms %v of a rate of one a minute", v)
	}
}
