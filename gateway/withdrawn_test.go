package gateway_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// TestWhatIsWithdrawnEndsWhatIsOpen: a connection, an answer that streams and an
// upgraded connection end when the export, the import, the intention or the peer's
// right to speak for the caller is withdrawn, whichever way they came. What is still
// allowed goes on.
func TestWhatIsWithdrawnEndsWhatIsOpen(t *testing.T) {
	callers := []policy.IDPattern{"spiffe://alpha.test/*"}
	for name, tt := range map[string]struct {
		withdraw func(w *world)
		reason   string
		// near says that it is alpha's table that says no.
		near bool
	}{
		"export": {func(w *world) {
			w.cluster("beta").service("db").ExportedTo = nil
			w.cluster("beta").service("web").ExportedTo = nil
		}, "not_exported", false},
		"service": {func(w *world) { w.cluster("beta").services = w.cluster("beta").services[:1] }, "unknown_service", false},
		"intention": {func(w *world) {
			w.cluster("beta").rules = []policy.Intention{{Name: "kept", Services: []policy.ServicePattern{"kept.default"}, Callers: callers, Action: policy.Allow}}
		}, "default_deny", false},
		"by a deny": {func(w *world) {
			w.cluster("beta").rules = append(w.cluster("beta").rules, policy.Intention{Name: "no", Services: []policy.ServicePattern{"db.default", "web.default"}, Callers: callers, Action: policy.Deny})
		}, "denied_by_intention", false},
		"by a deny with conditions": {func(w *world) {
			w.cluster("beta").rules = append(w.cluster("beta").rules, policy.Intention{
				Name: "no", Services: []policy.ServicePattern{"db.default", "web.default"}, Callers: callers, Action: policy.Deny,
				HTTP: []policy.HTTPCondition{{Path: "/events"}, {Path: "/ws"}},
			})
		}, "denied_by_intention", false},
		"asserts": {func(w *world) {
			w.asserts["alpha"] = []policy.IDPattern{"spiffe://alpha.test/other"}
			w.cluster("alpha").rules = nil
		}, "caller_not_asserted", false},
		"import": {func(w *world) {
			w.cluster("beta").service("db").ExportedTo = nil
			w.cluster("beta").service("web").ExportedTo = nil
		}, "unknown_service", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "alpha", "beta")
			stream := httpServer(t, func(rw http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Upgrade") != "" {
					c, rest, err := http.NewResponseController(rw).Hijack()
					if err != nil {
						return
					}
					defer c.Close()
					_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n")
					_, _ = io.Copy(c, rest)
					return
				}
				_, _ = io.WriteString(rw, "data: 1\n\n")
				_ = http.NewResponseController(rw).Flush()
				<-r.Context().Done()
			})
			w.cluster("beta").host("kept", catalog.TCP, tcpServer(t, echo)).host("db", catalog.TCP, tcpServer(t, echo)).host("web", catalog.HTTP, stream)
			near := w.cluster("alpha").gateway("gw1", "db", "web", "kept")
			far := w.cluster("beta").gateway("gw1")
			w.start()

			open := map[string]*bufio.Reader{}
			dial := func(what, address, first, want string) {
				c, err := net.Dial("tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = c.Close() })
				_ = c.SetDeadline(time.Now().Add(time.Minute))
				_, _ = io.WriteString(c, first)
				open[what] = bufio.NewReader(c)
				got := make([]byte, len(want))
				if _, err := io.ReadFull(open[what], got); err != nil || string(got) != want {
					t.Fatalf("%s: %q, %v", what, got, err)
				}
				if want != "x" {
					for line := ""; line != "\r\n"; { // the rest of the head
						if line, err = open[what].ReadString('\n'); err != nil {
							t.Fatalf("%s: %v", what, err)
						}
					}
				}
			}
			const events, upgrade = "GET /events HTTP/1.1\r\nHost: web.default\r\n\r\n", "GET /ws HTTP/1.1\r\nHost: web.default\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n"
			addrs := near.Addrs()
			dial("connection", addrs.TCP[0].String(), "x", "x")
			dial("kept", addrs.TCP[2].String(), "x", "x")
			dial("answer", addrs.HTTP.String(), events, "HTTP/1.1 200")
			dial("answer on a tcp way", addrs.TCP[1].String(), events, "HTTP/1.1 200")
			dial("upgraded", addrs.HTTP.String(), upgrade, "HTTP/1.1 101")
			dial("upgraded on a tcp way", addrs.TCP[1].String(), upgrade, "HTTP/1.1 101")

			tt.withdraw(w)
			judge := far
			if tt.near {
				judge = near
			}
			at := time.Now()
			judge.tables.push(w.table(judge.cluster))
			for what, r := range open {
				if what == "kept" {
					continue
				}
				// The deadline of the connection bounds the wait.
				var from io.Reader = r
				if strings.HasPrefix(what, "answer") {
					from = httputil.NewChunkedReader(r)
				}
				_, err := io.Copy(io.Discard, from)
				if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
					t.Fatalf("%s goes on", what)
				}
				if strings.HasPrefix(what, "answer") && err == nil {
					t.Errorf("%s ended as if it were whole", what)
				}
			}
			t.Logf("figure: everything withdrawn (%s) ended after %v", name, time.Since(at).Round(time.Millisecond))
			if n := judge.metric("isthmus_gateway_withdrawn_total", "reason="+tt.reason); n < 3 && name != "by a deny with conditions" || n == 0 {
				t.Errorf("%v ended for %s", n, tt.reason)
			}
			switch name {
			case "asserts":
				return // they are the peer's, for whatever it calls
			}
			eventuallyKept(t, open["kept"])
		})
	}
}

// eventuallyKept fails if the connection has ended: nothing more comes, and no end.
func eventuallyKept(t *testing.T, r *bufio.Reader) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := r.ReadByte()
		done <- err
	}()
	select {
	case err := <-done:
		t.Errorf("the connection that is still allowed ended: %v", err)
	case <-time.After(500 * time.Millisecond):
	}
}
