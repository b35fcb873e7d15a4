package endpoint_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/gateway/endpoint"
)

// One retry layer: what an endpoint may have got, only the gateway sends again. Go's
// client would try a request that may be repeated on every idle connection in turn.
func TestARequestReachesAnEndpointOnce(t *testing.T) {
	var asked atomic.Int64
	var hangUp atomic.Bool
	var seen sync.Map
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		seen.Store(r.Method, strings.Join(append(r.TransferEncoding, r.Header.Get("Content-Length")), " "))
		_, _ = io.Copy(io.Discard, r.Body)
		if hangUp.Load() {
			panic(http.ErrAbortHandler)
		}
		time.Sleep(50 * time.Millisecond) // so that each of many calls gets a connection
		_, _ = io.WriteString(w, "well")
	}))
	t.Cleanup(s.Close)
	e := &catalog.Endpoint{ID: "e1", Address: s.Listener.Addr().(*net.TCPAddr).AddrPort()}
	for method, body := range map[string]string{http.MethodGet: "", http.MethodHead: "", http.MethodOptions: "", http.MethodPost: "pay"} {
		t.Run(method, func(t *testing.T) {
			p := endpoint.New(endpoint.Options{})
			defer p.Close()
			call := func() error {
				// strings.Reader gives the request a GetBody, as the HTTP way in does
				req, err := http.NewRequestWithContext(t.Context(), method, "http://billing.default.mesh/x", strings.NewReader(body))
				if err != nil {
					return err
				}
				req.Header.Set("Idempotency-Key", "1") // net/http reads it
				resp, err := p.RoundTrip(e, catalog.HTTP, req)
				if err != nil {
					return err
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				return resp.Body.Close()
			}
			hangUp.Store(false)
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					if err := call(); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if got, _ := seen.Load(method); body == "" && got != "" {
				t.Errorf("a request without a body is sent with %q", got)
			}
			hangUp.Store(true)
			asked.Store(0)
			if err := call(); err == nil {
				t.Error("no error of a connection that broke")
			}
			if n := asked.Load(); n != 1 {
				t.Errorf("the endpoint was asked %d times for one attempt", n)
			}
		})
	}
}

// A connection that is written to in vain is no attempt: nothing was delivered.
func TestARequestOfWhichNothingWasWrittenGoesOnAnotherConnection(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "well") }))
	t.Cleanup(s.Close)
	e := &catalog.Endpoint{ID: "e1", Address: s.Listener.Addr().(*net.TCPAddr).AddrPort()}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		t.Run(method, func(t *testing.T) {
			var dead atomic.Bool
			var dials atomic.Int64
			p := endpoint.New(endpoint.Options{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				c, err := new(net.Dialer).DialContext(ctx, network, address)
				if dials.Add(1) == 1 {
					c = deadConn{c, &dead}
				}
				return c, err
			}})
			defer p.Close()
			for range 2 {
				body := ""
				if method == http.MethodPost {
					body = "pay"
				}
				req, err := http.NewRequestWithContext(t.Context(), method, "http://billing.default.mesh/x", strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				resp, err := p.RoundTrip(e, catalog.HTTP, req)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				dead.Store(true)
			}
			if n := dials.Load(); n != 2 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// deadConn takes nothing once it is dead.
type deadConn struct {
	net.Conn
	dead *atomic.Bool
}

// Write implements net.Conn.
func (c deadConn) Write(p []byte) (int, error) {
	if c.dead.Load() {
		return 0, syscall.EPIPE
	}
	return c.Conn.Write(p)
}
