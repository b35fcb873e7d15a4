package gateway_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/gateway/relay"
)

// TestRefusals: whatever may not be called is refused at the gateway whose rule it
// is, by both ways in, with a typed reason that is counted; the service never
// hears of it.
func TestRefusals(t *testing.T) {
	var reached atomic.Int64
	service := func(rw http.ResponseWriter, _ *http.Request) { reached.Add(1); rw.WriteHeader(http.StatusOK) }
	tests := map[string]struct {
		// spoil changes the world after it has started and everybody has a table:
		// what alpha believes may then differ from what beta allows.
		spoil  func(w *world)
		status int
		reason string // told to the caller
		far    string // counted at the far gateway, "" if it was not asked
	}{
		"unexported": {
			spoil:  func(w *world) { w.cluster("beta").service("web").ExportedTo = []catalog.ClusterName{"gamma"} },
			status: http.StatusServiceUnavailable, reason: "unknown_service", far: "not_exported",
		},
		"exported to nobody": {
			spoil:  func(w *world) { w.cluster("beta").service("web").ExportedTo = nil },
			status: http.StatusServiceUnavailable, reason: "unknown_service", far: "not_exported",
		},
		"withdrawn": {
			spoil:  func(w *world) { w.cluster("beta").services = nil },
			status: http.StatusServiceUnavailable, reason: "unknown_service", far: "unknown_service",
		},
		"caller denied by an intention": {
			spoil: func(w *world) {
				b := w.cluster("beta")
				b.rules = append(b.rules, policy.Intention{
					Name: "not-alpha", Services: []policy.ServicePattern{"web.default"}, Action: policy.Deny,
					Callers: []policy.IDPattern{policy.IDPattern(w.cluster("alpha").caller())},
				})
			},
			status: http.StatusForbidden, reason: "denied", far: "denied_by_intention",
		},
		"no intention": {
			spoil:  func(w *world) { w.cluster("beta").rules = nil },
			status: http.StatusForbidden, reason: "denied", far: "default_deny",
		},
		"caller that the peer may not assert": {
			spoil:  func(w *world) { w.asserts["alpha"] = []policy.IDPattern{"spiffe://alpha.test/other/*"} },
			status: http.StatusForbidden, reason: "denied", far: "caller_not_asserted",
		},
		"other port": {
			spoil: func(w *world) {
				s := w.cluster("beta").service("web")
				s.Ports = []catalog.Port{{Name: "renamed", Protocol: catalog.HTTP}}
				s.Endpoints[0].Port = "renamed"
			},
			status: http.StatusServiceUnavailable, reason: "unknown_port", far: "unknown_port",
		},
		"no endpoint": {
			spoil:  func(w *world) { w.cluster("beta").service("web").Endpoints = nil },
			status: http.StatusServiceUnavailable, reason: "no_endpoint", far: "no_candidate",
		},
		"not imported": {
			spoil: func(w *world) {
				w.cluster("beta").service("web").ExportedTo = nil
				w.cluster("alpha").gateways[0].tables.push(w.table(w.cluster("alpha")))
			},
			status: http.StatusNotFound, reason: "unknown_service",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "alpha", "beta", "gamma")
			w.cluster("beta").host("web", catalog.HTTP, httpServer(t, service))
			near := w.cluster("alpha").gateway("gw1", "web")
			far := w.cluster("beta").gateway("gw1")
			w.start()
			c := near.client()
			if status, header, body := get(t, c, "http://web.default.mesh/"); status != http.StatusOK {
				t.Fatalf("before: %d %v %s", status, header, body)
			}
			tt.spoil(w)
			table := w.table(w.cluster("beta"))
			far.tables.push(table)
			eventually(t, "the far gateway has its table", func() error {
				if v := far.metric("isthmus_gateway_table_version"); v != float64(table.Version) {
					return fmt.Errorf("version %v", v)
				}
				return nil
			})
			if tt.far == "" {
				eventually(t, "the near gateway has its table", func() error {
					if near.metric("isthmus_gateway_table_version") < float64(table.Version-1) {
						return errors.New("not yet")
					}
					return nil
				})
			}
			before := reached.Load()
			status, header, body := get(t, c, "http://web.default.mesh/")
			var p relay.Problem
			if err := json.Unmarshal([]byte(body), &p); err != nil {
				t.Fatalf("%v: %s", err, body)
			}
			if status != tt.status || header.Get("Isthmus-Reason") != tt.reason || p.Reason != tt.reason || p.Status != tt.status ||
				p.Service != "web.default" || header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("http: %d %v %+v", status, header, p)
			}
			if err := near.refusal(0); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("tcp: %v, want a reset", err)
			}
			if n := near.metric("isthmus_gateway_refusals_total", "way=http", "reason="+tt.reason); n != 1 {
				t.Errorf("near: %v http refusals counted", n)
			}
			if tt.far != "" {
				for _, way := range []string{"request", "stream"} {
					eventually(t, "the far gateway counts its refusal of a "+way, func() error {
						if n := far.metric("isthmus_gateway_refusals_total", "way="+way, "reason="+tt.far); n < 1 {
							return fmt.Errorf("%v for %s", n, tt.far)
						}
						return nil
					})
				}
			}
			if reached.Load() != before {
				t.Error("the service was reached")
			}
		})
	}
}

// TestOwnIntentionsDenyNearby: a caller that the own cluster's rule denies is not
// sent to another cluster's instances instead.
func TestOwnIntentionsDenyNearby(t *testing.T) {
	w := newWorld(t, "alpha", "beta")
	w.cluster("alpha").host("web", catalog.HTTP, httpServer(t, who("alpha")))
	w.cluster("beta").host("web", catalog.HTTP, httpServer(t, who("beta")))
	w.cluster("alpha").rules = []policy.Intention{{
		Name: "nobody", Services: []policy.ServicePattern{"*"}, Callers: []policy.IDPattern{"spiffe://alpha.test/*"}, Action: policy.Deny,
	}}
	near := w.cluster("alpha").gateway("gw1")
	w.cluster("beta").gateway("gw1")
	w.start()
	for _, authority := range []string{"web.default.mesh", "web.default.beta.mesh"} {
		status, header, body := get(t, near.client(), "http://"+authority+"/")
		if status != http.StatusForbidden || header.Get("Isthmus-Reason") != "denied_by_intention" || !strings.Contains(body, "nobody") {
			t.Errorf("%s: %d %v %s", authority, status, header, body)
		}
	}
}

func TestAuthoritiesAndMethodsThatAreNone(t *testing.T) {
	near, _ := twoClusters(t, "web", catalog.HTTP, httpServer(t, who("web")))
	raw := func(request string) (*http.Response, error) {
		c, err := net.Dial("tcp", near.Addrs().HTTP.String())
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.WriteString(c, request)
		return http.ReadResponse(bufio.NewReader(c), nil)
	}
	for request, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n":                                   "404 unknown_service",
		"GET / HTTP/1.1\r\nHost: www.example.org\r\n\r\n":                               "404 unknown_authority",
		"GET / HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n":                                  "404 unknown_authority",
		"GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n":                                         "404 unknown_authority",
		"GET / HTTP/1.1\r\nHost:\r\n\r\n":                                               "404 unknown_authority",
		"GET / HTTP/1.1\r\nHost: web.default.mesh..\r\n\r\n":                            "404 unknown_authority",
		"GET / HTTP/1.1\r\nHost: " + strings.Repeat("a", 300) + ".default.mesh\r\n\r\n": "404 unknown_authority",
		"GET / HTTP/1.1\r\nHost: federation.beta.mesh\r\n\r\n":                          "403 reserved",
		"GET http://web.default/ HTTP/1.1\r\nHost: federation.beta.mesh\r\n\r\n":        "200 ",
		"CONNECT web.default.mesh:80 HTTP/1.1\r\nHost: web.default.mesh:80\r\n\r\n":     "405 method_not_allowed",
		"TRACE / HTTP/1.1\r\nHost: web.default.mesh\r\n\r\n":                            "405 method_not_allowed",
	} {
		resp, err := raw(request)
		if err != nil {
			t.Errorf("%q: %v", request, err)
			continue
		}
		_ = resp.Body.Close()
		if got := fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Isthmus-Reason")); got != want {
			t.Errorf("%q: %q, want %q", request, got, want)
		}
	}
}

// TestMalformedRequestsAreRefused: what two parsers could read differently is
// answered with 400 over a raw socket, and nothing of it, nor of what is pipelined
// behind, reaches the service.
func TestMalformedRequestsAreRefused(t *testing.T) {
	var paths atomic.Pointer[string]
	near, _ := twoClusters(t, "web", catalog.HTTP, httpServer(t, func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path != "/good" {
			paths.Store(&r.URL.Path)
		}
		_, _ = io.WriteString(rw, "served")
	}))
	good := "GET /good HTTP/1.1\r\nHost: web.default.mesh\r\n\r\n"
	smuggled := "GET /smuggled HTTP/1.1\r\nHost: web.default.mesh\r\n\r\n"
	for name, bad := range map[string]string{
		"te and cl":        "POST /bad HTTP/1.1\r\nHost: web.default.mesh\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"two lengths":      "POST /bad HTTP/1.1\r\nHost: web.default.mesh\r\nContent-Length: 4\r\nContent-Length: 0\r\n\r\n",
		"bare lf":          "GET /bad HTTP/1.1\nHost: web.default.mesh\n\n",
		"folded line":      "GET /bad HTTP/1.1\r\nHost: web.default.mesh\r\nX: a\r\n b\r\n\r\n",
		"two hosts":        "GET /bad HTTP/1.1\r\nHost: web.default.mesh\r\nHost: web.default.mesh\r\n\r\n",
		"no host":          "GET /bad HTTP/1.1\r\n\r\n",
		"space and colon":  "GET /bad HTTP/1.1\r\nHost: web.default.mesh\r\nX : a\r\n\r\n",
		"nul in a field":   "GET /bad HTTP/1.1\r\nHost: web.default.mesh\r\nX: a\x00b\r\n\r\n",
		"http/0.9":         "GET /bad\r\n\r\n",
		"te in http/1.0":   "POST /bad HTTP/1.0\r\nHost: web.default.mesh\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"te twice":         "POST /bad HTTP/1.1\r\nHost: web.default.mesh\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
		"head too large":   "GET /bad HTTP/1.1\r\nHost: web.default.mesh\r\nX: " + strings.Repeat("x", 70<<10) + "\r\n\r\n",
		"tls hello":        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"pri, not at once": good + "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		for prefix, answered := range map[string]int{"": 0, good: 1} {
			c, err := net.Dial("tcp", near.Addrs().HTTP.String())
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			go func() { _, _ = io.WriteString(c, prefix+bad+smuggled) }()
			got, _ := io.ReadAll(c) // a reset behind the answer is as good as a close
			_ = c.Close()
			text := string(got)
			if n := strings.Count(text, "served"); n != answered+strings.Count(bad, good) {
				t.Errorf("%s: %d requests were served: %q", name, n, text)
			}
			if name == "tls hello" && prefix != "" {
				continue // net/http waits for four bytes of a next request; it just closes
			}
			if !strings.Contains(text, "HTTP/1.1 400 ") && !strings.Contains(text, "HTTP/1.1 431 ") && !strings.Contains(text, "HTTP/1.1 505 ") {
				t.Errorf("%s: not refused: %q", name, text)
			}
		}
	}
	if p := paths.Load(); p != nil {
		t.Errorf("%s reached the service", *p)
	}
}

// TestMalformedBodies: what is not strict behind the head of a request ends it with
// 400, is counted like a head that is not, and is nobody's fault but the caller's.
func TestMalformedBodies(t *testing.T) {
	near, _ := twoClusters(t, "web", catalog.HTTP, httpServer(t, func(rw http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprintf(rw, "served %d %v", n, err)
	}))
	const head = "POST / HTTP/1.1\r\nHost: web.default.mesh\r\nTransfer-Encoding: chunked\r\n\r\n"
	ask := func(request string) string {
		t.Helper()
		c, err := net.Dial("tcp", near.Addrs().HTTP.String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(c)
		return string(answer)
	}
	bodies := map[string]string{
		"a size that is no number":    "3\r\nabc\r\nxyz\r\n",
		"a chunk longer than it says": "3\r\nabcd\r\n0\r\n\r\n",
		"a bare lf":                   "3\r\nabc\n0\r\n\r\n",
		"late, behind 100 KB":         strings.Repeat("400\r\n"+strings.Repeat("x", 0x400)+"\r\n", 100) + "-1\r\n",
	}
	for name, body := range bodies {
		answer := ask(head + body)
		if !strings.HasPrefix(answer, "HTTP/1.1 400 ") || !strings.Contains(answer, "Isthmus-Reason: malformed") {
			t.Errorf("%s: %.300q", name, answer)
		}
	}
	if answer := ask("GET / HTTP/1.1\nHost: web.default.mesh\n\n"); !strings.HasPrefix(answer, "HTTP/1.1 400 ") {
		t.Errorf("a head: %q", answer)
	}
	want := float64(len(bodies) + 1)
	eventually(t, "refusals counted", func() error {
		if n := near.metric("isthmus_gateway_refusals_total", "way=http", "reason=malformed"); n != want {
			return fmt.Errorf("%v, want %v", n, want)
		}
		return nil
	})
	if answer := ask(head[:len(head)-2] + "Connection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n"); !strings.Contains(answer, "served 3 <nil>") {
		t.Errorf("a good one: %q", answer)
	}
}

func TestOverload(t *testing.T) {
	hold := make(chan struct{})
	w := newWorld(t, "alpha", "beta")
	w.cluster("beta").host("web", catalog.HTTP, httpServer(t, func(http.ResponseWriter, *http.Request) { <-hold })).host("echo", catalog.TCP, tcpServer(t, echo))
	near := w.cluster("alpha").gateway("gw1", "echo")
	near.config.Limits.Streams = 2
	near.config.Limits.ConnectionsPerListener = 3
	w.cluster("beta").gateway("gw1")
	w.start()
	c := near.client()
	done := make(chan struct{}, 2)
	for range 2 {
		go func() {
			resp, err := c.Get("http://web.default.mesh/")
			if err == nil {
				_ = resp.Body.Close()
			}
			done <- struct{}{}
		}()
	}
	eventually(t, "two requests are in progress", func() error {
		if n := near.metric("isthmus_gateway_http_requests"); n != 2 {
			return fmt.Errorf("%v", n)
		}
		return nil
	})
	status, header, _ := get(t, c, "http://web.default.mesh/")
	if status != http.StatusServiceUnavailable || header.Get("Isthmus-Reason") != "overloaded" || header.Get("Retry-After") == "" {
		t.Errorf("the third request: %d %v", status, header)
	}
	close(hold)
	<-done
	<-done
	for range 3 {
		conn := near.dial(0)
		_, _ = io.WriteString(conn, "x")
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	conn, err := net.Dial("tcp", near.Addrs().TCP[0].String())
	if err == nil {
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		_, err = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the fourth connection: %v, want a reset", err)
	}
	if n := near.metric("isthmus_gateway_refusals_total", "way=tcp", "reason=overloaded"); n != 1 {
		t.Errorf("%v refusals counted", n)
	}
}
