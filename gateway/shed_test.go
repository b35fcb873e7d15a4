package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Two clusters declare that an endpoint takes four calls at once, of which a gateway
// uses three: alpha's callers fill their own, then what beta grants over the link, and
// the next one is told to stay away.
func TestWhatFitsNowhereIsShedAtTheSource(t *testing.T) {
	release := make(chan struct{})
	var mu sync.Mutex
	held := make(map[string]int)
	hold := func(name string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/hold" {
				mu.Lock()
				held[name]++
				mu.Unlock()
				<-release
			}
			who(name)(w, r)
		}
	}
	w := newWorld(t, "alpha", "beta")
	for _, c := range []catalog.ClusterName{"alpha", "beta"} {
		w.cluster(c).host("web", catalog.HTTP, httpServer(t, hold(string(c))))
		w.cluster(c).traffic = map[string]*policy.Traffic{"web": {
			Name: "web", Services: []policy.ServicePattern{"web.default"}, Capacity: &policy.Capacity{PerEndpoint: 4},
		}}
		w.cluster(c).gateway("gw1")
	}
	w.start()
	near := w.cluster("alpha").gateways[0]
	eventually(t, "beta grants what it has to spare", func() error {
		for _, target := range near.reports.last().Targets {
			if target.Target.Cluster == "beta" && target.Room != nil && target.Room.Granted == 3 {
				return nil
			}
		}
		return fmt.Errorf("targets %+v", near.reports.last().Targets)
	})
	c := near.client()
	var calls sync.WaitGroup
	for range 6 {
		calls.Go(func() {
			if status, header, body := get(t, c, "http://web.default.mesh/hold"); status != http.StatusOK {
				t.Error(status, header, body)
			}
		})
	}
	eventually(t, "both clusters are full", func() error {
		mu.Lock()
		defer mu.Unlock()
		if held["alpha"] != 3 || held["beta"] != 3 {
			return fmt.Errorf("held %v", held)
		}
		return nil
	})
	status, header, body := get(t, c, "http://web.default.mesh/")
	if status != http.StatusServiceUnavailable || header.Get("Isthmus-Reason") != "shed" || header.Get("Retry-After") == "" {
		t.Errorf("one call more: %d %v %s", status, header, body)
	}
	if n := near.metric("isthmus_gateway_shed_total", "service=web.default", "side=own", "priority=default"); n != 1 {
		t.Errorf("%v calls are counted as shed", n)
	}
	if n := near.metric("isthmus_gateway_ejections_total"); n != 0 {
		t.Errorf("%v ejections", n)
	}
	close(release)
	calls.Wait()
	eventually(t, "there is room again", func() error {
		if status, _, body := get(t, c, "http://web.default.mesh/"); status != http.StatusOK {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
}

// TestWhatIsShedInItsOwnWords: a gRPC client and a TCP connection are told, as their
// protocols have it, that a call fits nowhere.
func TestWhatIsShedInItsOwnWords(t *testing.T) {
	w := newWorld(t, "alpha", "beta")
	beta := w.cluster("beta").host("far", catalog.GRPC, grpcServer(t, new(testService))).host("echo", catalog.TCP, tcpServer(t, echo))
	beta.traffic = make(map[string]*policy.Traffic)
	for _, service := range []string{"far", "echo"} {
		beta.traffic[service] = &policy.Traffic{
			Name: service, Services: []policy.ServicePattern{policy.ServicePattern(service + ".default")}, Capacity: &policy.Capacity{PerEndpoint: 1},
		}
	}
	near := w.cluster("alpha").gateway("gw1", "echo")
	beta.gateway("gw1")
	w.start()
	eventually(t, "beta grants a call of each", func() error {
		granted := 0
		for _, target := range near.reports.last().Targets {
			if target.Target.Cluster == "beta" && target.Room != nil && target.Room.Granted == 1 {
				granted++
			}
		}
		if granted != 2 {
			return fmt.Errorf("targets %+v", near.reports.last().Targets)
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	c := stub(t, near, "far.default.mesh")
	stream, err := c.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&pb.StreamingOutputCallRequest{Payload: &pb.Payload{Body: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	var header, trailer metadata.MD
	_, err = c.UnaryCall(ctx, new(pb.SimpleRequest), grpc.Header(&header), grpc.Trailer(&trailer))
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "shed") {
		t.Errorf("a gRPC call more: %v", err)
	}
	if v := trailer.Get("grpc-retry-pushback-ms"); len(v) != 1 || v[0] != "2000" {
		t.Errorf("grpc-retry-pushback-ms %v", v)
	}
	if err := stream.CloseSend(); err != nil {
		t.Error(err)
	}
	cancel()

	conn := near.dial(0)
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := near.refusal(0); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection more: %v, want a reset", err)
	}
	eventually(t, "the reason is counted", func() error {
		if n := near.metric("isthmus_gateway_refusals_total", "way=tcp", "reason=shed"); n != 1 {
			return fmt.Errorf("%v refusals", n)
		}
		return nil
	})
	_ = conn.Close()
	near.blameless(t, "echo.default")
	near.blameless(t, "far.default")
}
