package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	pb "google.golang.org/grpc/interop/grpc_testing"
)

// TestAFarDrainUnderLoadCostsNoError: one of two far gateways is told to stop while
// requests of every kind and connections go through both.
func TestAFarDrainUnderLoadCostsNoError(t *testing.T) {
	w := newWorld(t, "alpha", "beta")
	w.cluster("beta").
		host("web", catalog.HTTP, httpServer(t, func(rw http.ResponseWriter, r *http.Request) {
			time.Sleep(20 * time.Millisecond)
			_, _ = io.Copy(rw, r.Body)
		})).
		host("calls", catalog.GRPC, grpcServer(t, new(testService))).
		host("echo", catalog.TCP, tcpServer(t, echo))
	near := w.cluster("alpha").gateway("gw1", "echo")
	victim := w.cluster("beta").gateway("gw1")
	w.cluster("beta").gateway("gw2")
	w.start()
	c, calls := near.client(), stub(t, near, "calls.default.mesh")
	var total, failed atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	load := func(what string, call func(i int) error) {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
				}
				total.Add(1)
				if err := call(i); err != nil {
					failed.Add(1)
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
	for range 4 {
		load("post", func(i int) error { // not idempotent: only what was certainly not delivered is replayed
			text := fmt.Sprint("body ", i)
			resp, err := c.Post("http://web.default.mesh/", "text/plain", strings.NewReader(text))
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != http.StatusOK || string(b) != text {
				return fmt.Errorf("%d %v %q, %w", resp.StatusCode, resp.Header, b, err)
			}
			return nil
		})
		load("grpc", func(int) error {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			_, err := calls.UnaryCall(ctx, &pb.SimpleRequest{ResponseSize: 10})
			return err
		})
		load("tcp", func(int) error {
			conn, err := net.Dial("tcp", near.Addrs().TCP[0].String())
			if err != nil {
				return err
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			_, _ = io.WriteString(conn, "hello")
			time.Sleep(30 * time.Millisecond)
			_, _ = io.WriteString(conn, " again")
			_ = conn.(*net.TCPConn).CloseWrite()
			b, err := io.ReadAll(conn)
			if err != nil || string(b) != "hello again" {
				return fmt.Errorf("%q, %w", b, err)
			}
			return nil
		})
	}
	time.Sleep(700 * time.Millisecond)
	start := time.Now()
	victim.stop()
	took := time.Since(start)
	time.Sleep(700 * time.Millisecond)
	close(stop)
	wg.Wait()
	t.Logf("%d of %d calls failed, the drain took %v", failed.Load(), total.Load(), took)
	if total.Load() < 50 { // a busy machine with the race detector makes few
		t.Errorf("only %d calls were made", total.Load())
	}
}

// TestANearDrainFinishesWhatIsInProgress: the gateway that callers are connected to
// stops; what runs is finished, what comes is refused, answers say to come anew.
func TestANearDrainFinishesWhatIsInProgress(t *testing.T) {
	release := make(chan struct{})
	arrived := make(chan struct{}, 10)
	near, w := twoClusters(t, "echo", catalog.TCP, tcpServer(t, echo))
	w.cluster("beta").host("slow", catalog.HTTP, httpServer(t, func(rw http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
		_, _ = io.WriteString(rw, "finished")
	}))
	w.push()
	eventually(t, "the new service", func() error {
		if r := near.reports.last(); r == nil || len(r.Targets) < 2 {
			return errors.New("not yet")
		}
		return nil
	})
	conn := near.dial(0)
	_, _ = io.WriteString(conn, "before ")
	if _, err := io.ReadFull(conn, make([]byte, 7)); err != nil {
		t.Fatal(err)
	}
	type result struct {
		body   string
		closed bool
		err    error
	}
	answers := make(chan result, 1)
	go func() {
		resp, err := near.client().Get("http://slow.default.mesh/")
		if err != nil {
			answers <- result{err: err}
			return
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		answers <- result{string(b), resp.Close, err}
	}()
	<-arrived
	http1, tcp, done := near.Addrs().HTTP.String(), near.Addrs().TCP[0].String(), make(chan struct{})
	go func() { defer close(done); near.stop() }()
	eventually(t, "new connections are refused", func() error {
		for _, address := range []string{http1, tcp} {
			if c, err := net.Dial("tcp", address); !errors.Is(err, syscall.ECONNREFUSED) {
				if err == nil {
					_ = c.Close()
				}
				return errors.Join(errors.New(address+" is not closed"), err)
			}
		}
		return nil
	})
	if r := near.reports.last(); !r.Gateway.Draining {
		t.Error("the federation was not told")
	}
	time.Sleep(300 * time.Millisecond)
	_, _ = io.WriteString(conn, "after")
	_ = conn.CloseWrite()
	if rest, err := io.ReadAll(conn); err != nil || string(rest) != "after" {
		t.Errorf("the open connection: %q, %v", rest, err)
	}
	close(release)
	if r := <-answers; r.err != nil || r.body != "finished" || !r.closed {
		t.Errorf("the request in progress: %+v", r)
	}
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("the drain does not end though nothing is left")
	}
}

// TestADrainThatRunsOutCuts: a connection that never ends does not keep the process.
func TestADrainThatRunsOutCuts(t *testing.T) {
	for _, where := range []catalog.ClusterName{"alpha", "beta"} {
		t.Run(string(where), func(t *testing.T) {
			w := newWorld(t, "alpha", "beta")
			w.cluster("beta").host("echo", catalog.TCP, tcpServer(t, echo))
			near := w.cluster("alpha").gateway("gw1", "echo")
			far := w.cluster("beta").gateway("gw1")
			near.config.DrainTimeout, far.config.DrainTimeout = time.Second, time.Second
			w.start()
			conn := near.dial(0)
			_, _ = io.WriteString(conn, "x")
			if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			w.cluster(where).gateways[0].stop()
			if took := time.Since(start); took < time.Second || took > 10*time.Second {
				t.Errorf("the drain took %v, want a second", took)
			}
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the connection: %v, want a reset", err)
			}
		})
	}
}
