package gateway_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// TestAKilledGatewayResetsStreamsAndLosesNoIdempotentRequest: the far gateway dies
// without a word under load. Connections through it are reset, not left hanging;
// idempotent requests that hang on its links are answered by the next cluster; the
// others are not executed twice.
func TestAKilledGatewayResetsStreamsAndLosesNoIdempotentRequest(t *testing.T) {
	w := newWorld(t, "alpha", "beta", "gamma")
	hold := make(chan struct{})
	var executed sync.Map // POST bodies, by how often they were executed
	var held atomic.Int64
	slow := func(name string) http.HandlerFunc {
		return func(rw http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				b, _ := io.ReadAll(r.Body)
				n, _ := executed.LoadOrStore(string(b), new(atomic.Int64))
				n.(*atomic.Int64).Add(1)
			}
			if r.URL.Path == "/hang" && name == "beta" {
				held.Add(1)
				select {
				case <-hold:
				case <-r.Context().Done():
				}
			}
			who(name)(rw, r)
		}
	}
	t.Cleanup(sync.OnceFunc(func() { close(hold) }))
	w.cluster("beta").host("web", catalog.HTTP, httpServer(t, slow("beta"))).host("echo", catalog.TCP, tcpServer(t, echo))
	w.cluster("gamma").host("web", catalog.HTTP, httpServer(t, slow("gamma")))
	w.cluster("alpha").traffic = map[string]*policy.Traffic{
		"web": {Name: "beta-first", Services: []policy.ServicePattern{"web.default"}, Clusters: []catalog.ClusterName{"beta", "gamma"}},
	}
	near := w.cluster("alpha").gateway("gw1", "echo")
	victim := w.cluster("beta").gateway("gw1")
	w.cluster("gamma").gateway("gw1")
	w.start()
	c := near.client()

	for range 150 { // calls that went well pay for the retries of those that will not
		if status, _, body := get(t, c, "http://web.default.mesh/"); status != http.StatusOK {
			t.Fatal(status, body)
		}
	}
	streams := make([]io.ReadCloser, 20)
	for i := range streams {
		conn := near.dial(0)
		_, _ = io.WriteString(conn, "x")
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		streams[i] = conn
	}
	type result struct {
		method string
		status int
		name   string
		reason string
	}
	const each = 30
	results := make(chan result, 2*each)
	for i := range each {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			go func() {
				req, err := http.NewRequestWithContext(t.Context(), method, "http://web.default.beta.mesh/hang", strings.NewReader(fmt.Sprint("post ", i)))
				if err != nil {
					panic(err)
				}
				// A GET asks for any cluster, a POST for this one.
				if method == http.MethodGet {
					req.Host, req.Body, req.ContentLength = "web.default.mesh", nil, 0
				}
				resp, err := c.Do(req)
				if err != nil {
					results <- result{method: method, reason: err.Error()}
					return
				}
				b, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				r := result{method: method, status: resp.StatusCode, reason: resp.Header.Get("Isthmus-Reason")}
				if resp.StatusCode == http.StatusOK {
					r.name = parse(t, string(b)).Name
				}
				results <- r
			}()
		}
	}
	eventually(t, "requests hang at the far end", func() error {
		if held.Load() < 2*each {
			return fmt.Errorf("%d hang", held.Load())
		}
		return nil
	})
	killed := time.Now()
	victim.kill()

	for _, s := range streams {
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a stream ended with %v, want a reset", err)
		}
	}
	t.Logf("streams were reset after %v", time.Since(killed))
	byName := make(map[string]int)
	for range 2 * each {
		r := <-results
		switch r.method {
		case http.MethodGet:
			byName[r.name]++
			if r.status != http.StatusOK {
				t.Errorf("an idempotent request was lost: %+v", r)
			}
		case http.MethodPost:
			if r.status != http.StatusBadGateway || r.reason == "" {
				t.Errorf("a request of open fate: %+v", r)
			}
		}
	}
	t.Logf("idempotent requests were answered by %v, the last after %v", byName, time.Since(killed))
	executed.Range(func(body, n any) bool {
		if got := n.(*atomic.Int64).Load(); got != 1 {
			t.Errorf("%q was executed %d times", body, got)
		}
		return true
	})
	if status, _, body := get(t, c, "http://web.default.mesh/"); status != http.StatusOK || parse(t, body).Name != "gamma" {
		t.Errorf("afterwards: %d %s", status, body)
	}
}

// TestOneOfTwoGatewaysIsKilled: the cluster stays in reach by the other one.
func TestOneOfTwoGatewaysIsKilled(t *testing.T) {
	w := newWorld(t, "alpha", "beta")
	w.cluster("beta").host("web", catalog.HTTP, httpServer(t, who("beta")))
	near := w.cluster("alpha").gateway("gw1")
	victim := w.cluster("beta").gateway("gw1")
	w.cluster("beta").gateway("gw2")
	w.start()
	c := near.client()
	const callers = 8
	var total, failed, cut atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(10 * time.Millisecond):
				}
				total.Add(1)
				resp, err := c.Get("http://web.default.mesh/") //nolint:noctx // it ends with the client
				if err != nil || resp.StatusCode != http.StatusOK {
					failed.Add(1)
					t.Logf("%v %v", resp, err)
				}
				if err != nil {
					continue
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					cut.Add(1)
				}
				_ = resp.Body.Close()
			}
		})
	}
	time.Sleep(500 * time.Millisecond)
	victim.kill()
	time.Sleep(3 * time.Second)
	close(stop)
	wg.Wait()
	t.Logf("%d of %d requests failed, %d answers were cut", failed.Load(), total.Load(), cut.Load())
	if cut.Load() > callers { // an answer that has begun cannot be asked for again
		t.Errorf("%d answers were cut by one kill, with %d under way at most", cut.Load(), callers)
	}
	if failed.Load() != 0 || total.Load() < 100 {
		t.Errorf("%d of %d idempotent requests failed", failed.Load(), total.Load())
	}
}

// TestARestartedGatewayServesAgain: after a kill the process comes back on the same
// address, with its tables from disk, and its peers link to it again.
func TestARestartedGatewayServesAgain(t *testing.T) {
	near, w := twoClusters(t, "web", catalog.HTTP, httpServer(t, who("beta")))
	far := w.cluster("beta").gateways[0]
	c := near.client()
	if status, _, body := get(t, c, "http://web.default.mesh/"); status != http.StatusOK {
		t.Fatal(status, body)
	}
	far.kill()
	start := time.Now()
	far.boot() // no table is pushed: the disk has it
	far.waitReady()
	t.Logf("ready again after %v", time.Since(start))
	eventually(t, "calls reach it again", func() error {
		if status, header, body := get(t, c, "http://web.default.mesh/"); status != http.StatusOK {
			return fmt.Errorf("%d %v %s", status, header, body)
		}
		return nil
	})
	t.Logf("called again after %v", time.Since(start))
}
