package protocols_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

// testService is gRPC's own interop service.
type testService struct {
	testpb.UnimplementedTestServiceServer
	instance string
}

func (s *testService) UnaryCall(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	if st := in.GetResponseStatus(); st.GetCode() != 0 {
		_ = grpc.SetTrailer(ctx, metadata.Pairs("x-trailer", "after"))
		return nil, status.Error(codes.Code(st.GetCode()), st.GetMessage())
	}
	return &testpb.SimpleResponse{
		Payload:  &testpb.Payload{Body: make([]byte, in.GetResponseSize())},
		Username: s.instance,
	}, nil
}

func (s *testService) StreamingOutputCall(in *testpb.StreamingOutputCallRequest, out grpc.ServerStreamingServer[testpb.StreamingOutputCallResponse]) error {
	for _, p := range in.GetResponseParameters() {
		if err := out.Send(&testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: make([]byte, p.GetSize())}}); err != nil {
			return err
		}
	}
	return nil
}

func (s *testService) StreamingInputCall(in grpc.ClientStreamingServer[testpb.StreamingInputCallRequest, testpb.StreamingInputCallResponse]) error {
	total := 0
	for {
		m, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return in.SendAndClose(&testpb.StreamingInputCallResponse{AggregatedPayloadSize: int32(total)})
		}
		if err != nil {
			return err
		}
		total += len(m.GetPayload().GetBody())
	}
}

func (s *testService) FullDuplexCall(both grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]) error {
	for {
		m, err := both.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := both.Send(&testpb.StreamingOutputCallResponse{Payload: m.GetPayload()}); err != nil {
			return err
		}
	}
}

func TestGRPC(t *testing.T) {
	p := newPair(t)
	var addresses []string
	for i := range 2 {
		ln, a := listen(t)
		srv := grpc.NewServer()
		testpb.RegisterTestServiceServer(srv, &testService{instance: fmt.Sprintf("instance-%d", i)})
		go func() { _ = srv.Serve(ln) }()
		t.Cleanup(srv.Stop)
		addresses = append(addresses, a.String())
	}
	p.services = append(p.services, stand.Service{Name: "rpc.default", Port: "main", Protocol: "grpc", Addresses: addresses})
	p.serve(t, "spare", "grpc", netip.MustParseAddrPort(addresses[0]))
	p.Start()
	conn, err := grpc.NewClient("passthrough:///"+p.http(),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("rpc.default.mesh"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	client := testpb.NewTestServiceClient(conn)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	stand.Eventually(t, time.Minute, "rpc answers", func() error {
		_, err := client.UnaryCall(ctx, &testpb.SimpleRequest{})
		return err
	})

	t.Run("unary, balanced over the far instances by request", func(t *testing.T) {
		seen := map[string]int{}
		// two by predicted completion: the one that was slow last waits for its turn
		for calls := 0; calls < 200 || (calls < 20_000 && min(seen["instance-0"], seen["instance-1"]) < 20); calls++ {
			r, err := client.UnaryCall(ctx, &testpb.SimpleRequest{ResponseSize: 1000})
			if err != nil || len(r.GetPayload().GetBody()) != 1000 {
				t.Fatal(err)
			}
			seen[r.GetUsername()]++
		}
		stand.Figure(t, "calls on one connection: %v", seen)
		if len(seen) != 2 || seen["instance-0"] < 20 || seen["instance-1"] < 20 {
			t.Errorf("one connection is pinned: %v", seen)
		}
	})
	t.Run("error with trailers", func(t *testing.T) {
		var trailer metadata.MD
		_, err := client.UnaryCall(ctx, &testpb.SimpleRequest{
			ResponseStatus: &testpb.EchoStatus{Code: int32(codes.FailedPrecondition), Message: "not now"},
		}, grpc.Trailer(&trailer))
		if s := status.Convert(err); s.Code() != codes.FailedPrecondition || s.Message() != "not now" || len(trailer["x-trailer"]) != 1 {
			t.Errorf("%v, trailers %v", err, trailer)
		}
	})
	t.Run("server streaming", func(t *testing.T) {
		var sizes []*testpb.ResponseParameters
		for range 100 {
			sizes = append(sizes, &testpb.ResponseParameters{Size: 10_000})
		}
		s, err := client.StreamingOutputCall(ctx, &testpb.StreamingOutputCallRequest{ResponseParameters: sizes})
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		for {
			_, err := s.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			count++
		}
		if count != 100 {
			t.Errorf("got %d messages", count)
		}
	})
	t.Run("client streaming", func(t *testing.T) {
		s, err := client.StreamingInputCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if err := s.Send(&testpb.StreamingInputCallRequest{Payload: &testpb.Payload{Body: make([]byte, 10_000)}}); err != nil {
				t.Fatal(err)
			}
		}
		r, err := s.CloseAndRecv()
		if err != nil || r.GetAggregatedPayloadSize() != 1_000_000 {
			t.Errorf("%v, %v", r, err)
		}
	})
	t.Run("both ways at once, turn by turn", func(t *testing.T) {
		s, err := client.FullDuplexCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 50 {
			body := fmt.Appendf(nil, "turn %d", i)
			if err := s.Send(&testpb.StreamingOutputCallRequest{Payload: &testpb.Payload{Body: body}}); err != nil {
				t.Fatal(err)
			}
			r, err := s.Recv()
			if err != nil || string(r.GetPayload().GetBody()) != string(body) {
				t.Fatalf("turn %d: %v, %v", i, r, err)
			}
		}
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("end: %v", err)
		}
	})
	t.Run("the caller cancels", func(t *testing.T) {
		short, stop := context.WithCancel(ctx)
		s, err := client.FullDuplexCall(short)
		if err != nil {
			t.Fatal(err)
		}
		stop()
		if _, err := s.Recv(); status.Code(err) != codes.Canceled {
			t.Errorf("%v", err)
		}
	})
	t.Run("an unknown service has gRPC's status", func(t *testing.T) {
		other, err := grpc.NewClient("passthrough:///"+p.http(),
			grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("nobody.default.mesh"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = other.Close() }()
		_, err = testpb.NewTestServiceClient(other).UnaryCall(ctx, &testpb.SimpleRequest{})
		if c := status.Code(err); c != codes.Unimplemented && c != codes.Unavailable && c != codes.NotFound {
			t.Errorf("%v", err)
		}
	})
}
