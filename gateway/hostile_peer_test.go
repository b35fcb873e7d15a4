//go:build !race

// The race detector's own runtime dies of this test now and then (a CHECK of
// ThreadSanitizer's thread slots fails), at an eighth of its size, too: .ci/test runs it
// without.

package gateway_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
)

// TestOneHostilePeerCostsTheOthersLittle: three clusters with real gateways, links and
// SVIDs over a simulated network; beta hosts, alpha and gamma call. Beside what gamma
// does, a flood of requests, requests that hang, thousands of streams that never end,
// alpha keeps at least nine tenths of its goodput of before.
func TestOneHostilePeerCostsTheOthersLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "alpha", "beta", "gamma")
		w.sim = newSim(tunneltest.Path{Delay: 5 * time.Millisecond})
		defer w.sim.Close()
		w.sim.memory = tunneltest.NewTCP(0)
		l, _ := w.sim.memory.Listen("tcp", "")
		defer lineServer(t, l)()
		web, _ := w.sim.memory.Listen("tcp", "")
		workers := make(chan struct{}, 20)
		server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			workers <- struct{}{}
			defer func() { <-workers }()
			takes := time.NewTimer(10 * time.Millisecond)
			if r.URL.Path == "/hang" {
				takes.Reset(time.Minute)
			}
			select {
			case <-takes.C:
			case <-r.Context().Done():
			}
		})}
		served := make(chan struct{})
		go func() { defer close(served); _ = server.Serve(web) }()
		defer func() { _ = server.Close(); <-served }()

		beta := w.cluster("beta").host("line", catalog.TCP, l.Addr()).host("web", catalog.HTTP, web.Addr())
		beta.limit("web", policy.Limits{Concurrency: &policy.Concurrency{Max: 20}})
		good, hostile := w.cluster("alpha").gateway("gw1", "line"), w.cluster("gamma").gateway("gw1", "line")
		far := beta.gateway("gw1")
		far.config.Limits.Streams = 300
		w.start()
		for _, n := range []*node{far, good, hostile} {
			defer n.stop()
		}
		time.Sleep(5 * time.Second)

		s := &senders{w: w, t: t}
		s.calls(good, 2*time.Second) // what it had lately counts
		before := s.calls(good, 3*time.Second)
		for _, c := range []struct {
			what string
			does func(ctx context.Context)
		}{
			{"a flood of requests", func(ctx context.Context) { s.flood(ctx, hostile, "/", 200, 0) }},
			{"requests that hang", func(ctx context.Context) { s.flood(ctx, hostile, "/hang", 200, 100*time.Millisecond) }},
			{"a thousand streams that never end", func(ctx context.Context) { s.streams(ctx, hostile, 1000) }},
		} {
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() { c.does(ctx) })
			time.Sleep(500 * time.Millisecond)
			beside := s.calls(good, 3*time.Second)
			t.Logf("figure: beside %s: %d of %d requests and %d of %d connections of another peer (before: %d of %d, %d of %d); the hostile peer was refused %d times",
				c.what, beside.requests, beside.asked, beside.connections, beside.dialed, before.requests, before.asked, before.connections, before.dialed, s.refused.Swap(0))
			if share := beside.goodput(); share < 0.9*before.goodput() {
				t.Errorf("beside %s goodput is %.3f, before %.3f", c.what, share, before.goodput())
			}
			cancel()
			wg.Wait()
			time.Sleep(2 * time.Second)
		}
	})
}

// senders call through gateways on a simulated network.
type senders struct {
	w       *world
	t       *testing.T
	refused atomic.Int64
}

// sent is what became of calls.
type sent struct{ asked, requests, dialed, connections int64 }

// goodput is the worse of both.
func (s sent) goodput() float64 {
	return min(float64(s.requests)/float64(s.asked), float64(s.connections)/float64(s.dialed))
}

func (s *senders) client(n *node) (c *http.Client, end func()) {
	tr := &http.Transport{MaxIdleConnsPerHost: 500, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return s.w.sim.memory.Dial(ctx, network, n.Addrs().HTTP.String())
	}}
	return &http.Client{Transport: tr}, tr.CloseIdleConnections
}

// calls makes 300 requests and 20 connections a second for a time; what has no answer in
// a second has none.
func (s *senders) calls(n *node, length time.Duration) sent {
	var out sent
	c, end := s.client(n)
	defer end()
	var wg sync.WaitGroup
	for i, until := 0, time.Now().Add(length); time.Now().Before(until); i++ {
		out.asked++
		wg.Go(func() {
			if s.request(s.t.Context(), c, "/", time.Second) == http.StatusOK {
				atomic.AddInt64(&out.requests, 1)
			}
		})
		if i%15 == 0 {
			out.dialed++
			wg.Go(func() {
				if conn := s.connect(s.t.Context(), n); conn != nil {
					_ = conn.Close()
					atomic.AddInt64(&out.connections, 1)
				}
			})
		}
		time.Sleep(time.Second / 300)
	}
	wg.Wait()
	return out
}

func (s *senders) request(ctx context.Context, c *http.Client, path string, timeout time.Duration) int {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://web.default.mesh"+path, nil)
	if err != nil {
		return 0
	}
	resp, err := c.Do(r)
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode
}

// connect opens a connection and exchanges a line on it; nil if that fails.
func (s *senders) connect(ctx context.Context, n *node) net.Conn {
	conn, err := s.w.sim.memory.Dial(ctx, "tcp", n.Addrs().TCP[0].String())
	if err != nil {
		return nil
	}
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	_, err = io.WriteString(conn, "question\n")
	if err == nil {
		_, err = bufio.NewReader(conn).ReadString('\n')
	}
	if err != nil {
		_ = conn.Close()
		return nil
	}
	_ = conn.SetDeadline(time.Time{})
	return conn
}

// flood keeps so many requests in progress until ctx ends.
func (s *senders) flood(ctx context.Context, n *node, path string, many int, pause time.Duration) {
	c, end := s.client(n)
	defer end()
	var wg sync.WaitGroup
	for range many {
		wg.Go(func() {
			for ctx.Err() == nil {
				if s.request(ctx, c, path, time.Hour) == http.StatusServiceUnavailable {
					s.refused.Add(1)
				}
				time.Sleep(pause + 20*time.Millisecond)
			}
		})
	}
	wg.Wait()
}

// streams opens so many connections and holds them until ctx ends.
func (s *senders) streams(ctx context.Context, n *node, many int) {
	var wg sync.WaitGroup
	for range many {
		wg.Go(func() {
			for ctx.Err() == nil {
				if conn := s.connect(ctx, n); conn != nil {
					<-ctx.Done()
					_ = conn.Close()
					return
				}
				s.refused.Add(1)
				time.Sleep(500 * time.Millisecond)
			}
		})
		time.Sleep(time.Millisecond / 4)
	}
	wg.Wait()
}
