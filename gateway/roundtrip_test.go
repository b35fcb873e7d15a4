package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
)

// oneWay is half of the distance between the clusters: a round trip is 40 ms.
const oneWay = 20 * time.Millisecond

// lineServer answers each line with itself, on a listener of any network.
func lineServer(t *testing.T, l net.Listener) (stop func()) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					if _, err := io.WriteString(c, line); err != nil {
						return
					}
				}
			})
		}
	})
	return func() { _ = l.Close(); wg.Wait() }
}

// exchange opens a connection, sends a line and reads the answer, and returns how
// long that took from before the dial.
func exchange(t *testing.T, dial func(ctx context.Context, network, address string) (net.Conn, error), address string) time.Duration {
	t.Helper()
	start := time.Now()
	c, err := dial(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "question\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || line != "question\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return time.Since(start)
}

// TestANewConnectionCostsOneRoundTrip counts round trips on the fake clock, on
// which computing takes no time. The gateways are real, with real QUIC, TLS and
// SVIDs over a simulated packet network; the TCP of the hosts at both ends is
// tunneltest.TCP.
//
// Directly, the same exchange costs two: one to connect (SYN, SYN-ACK) before the
// request may leave, one for request and answer. Through a warm link the caller's
// connect ends at the near gateway, beside it, and the request travels behind the
// stream's header in the same flight.
func TestANewConnectionCostsOneRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "alpha", "beta")
		w.sim = newSim(tunneltest.Path{Delay: oneWay})
		defer w.sim.Close()
		w.sim.memory = tunneltest.NewTCP(oneWay)
		l, _ := w.sim.memory.Listen("tcp", "")
		stop := lineServer(t, l)
		defer stop()
		web, _ := w.sim.memory.Listen("tcp", "")
		server := &http.Server{Handler: who("beta")}
		served := make(chan struct{})
		go func() { defer close(served); _ = server.Serve(web) }()
		defer func() { _ = server.Close(); <-served }()

		w.cluster("beta").host("line", catalog.TCP, l.Addr()).host("web", catalog.HTTP, web.Addr())
		near := w.cluster("alpha").gateway("gw1", "line")
		far := w.cluster("beta").gateway("gw1")
		w.start()
		defer far.stop()
		defer near.stop()
		time.Sleep(5 * time.Second) // whatever was on its way has arrived

		const roundTrip = 2 * oneWay
		for i := range 5 {
			if d := exchange(t, w.sim.memory.Dial, near.Addrs().TCP[0].String()); d != roundTrip {
				t.Errorf("connection %d through the gateways took %v, want one round trip of %v", i, d, roundTrip)
			}
		}
		if d := exchange(t, w.sim.memory.DialSlow, l.Addr().String()); d != 2*roundTrip {
			t.Errorf("the direct connection took %v, want two round trips", d)
		}
		transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return w.sim.memory.Dial(ctx, network, near.Addrs().HTTP.String())
		}}
		for i := range 5 {
			start := time.Now()
			if status, _, body := get(t, &http.Client{Transport: transport}, "http://web.default.mesh/"); status != http.StatusOK {
				t.Fatal(status, body)
			}
			if d := time.Since(start); d != roundTrip {
				t.Errorf("request %d on a new connection took %v, want one round trip", i, d)
			}
		}
	})
}

// TestANewConnectionOverRealTCP is the same with real sockets at both ends and the
// distance on the real clock, where the figure is printed and only a gross miss
// fails.
func TestANewConnectionOverRealTCP(t *testing.T) {
	w := newWorld(t, "alpha", "beta")
	w.sim = newSim(tunneltest.Path{Delay: oneWay})
	t.Cleanup(w.sim.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lineServer(t, l))
	w.cluster("beta").host("line", catalog.TCP, l.Addr())
	near := w.cluster("alpha").gateway("gw1", "line")
	w.cluster("beta").gateway("gw1")
	w.start()
	best := time.Hour
	var all []string
	for range 10 {
		d := exchange(t, new(net.Dialer).DialContext, near.Addrs().TCP[0].String())
		best = min(best, d)
		all = append(all, fmt.Sprintf("%.1f", float64(d)/float64(2*oneWay)))
	}
	t.Logf("round trips of %v per new connection: %v", 2*oneWay, all)
	if best < 2*oneWay || best > 5*2*oneWay {
		t.Errorf("the best of ten took %v", best)
	}
}
