package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// guarded are the rules that the tests of conditions live by.
func guarded(services ...policy.ServicePattern) []policy.Intention {
	callers := []policy.IDPattern{"spiffe://alpha.test/*"}
	team := []policy.HeaderCondition{{Name: "x-team", Exact: "blue"}}
	return []policy.Intention{
		{Name: "public", Services: services, Callers: callers, Action: policy.Allow, HTTP: []policy.HTTPCondition{
			{Methods: []string{"GET"}, PathPrefix: "/public/"}, {Path: "/ws"}, {Methods: []string{"POST"}, Path: "/pkg.Service/Method"},
		}},
		{Name: "team", Services: services, Callers: callers, Action: policy.Allow, HTTP: []policy.HTTPCondition{{Path: "/team", Headers: team}}},
		{Name: "no-secret", Services: services, Callers: callers, Action: policy.Deny, HTTP: []policy.HTTPCondition{{PathPrefix: "/public/secret/"}}},
	}
}

// raw sends a request as it is written, and returns the status of the answer; 0 for
// none.
func raw(t *testing.T, address, request string) (status int, reason string) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	_, _ = io.WriteString(c, request)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, err.Error()
	}
	_ = resp.Body.Close()
	return resp.StatusCode, resp.Header.Get("Isthmus-Reason")
}

// TestConditionsOnHTTP: conditions are judged for each request, on every way that a
// request can come: over a link, to an own endpoint, from the HTTP way or inside of a
// TCP way's connection; what is refused never reaches the service.
func TestConditionsOnHTTP(t *testing.T) {
	var reached atomic.Pointer[string]
	serve := httpServer(t, func(rw http.ResponseWriter, r *http.Request) {
		reached.Store(new(r.RequestURI))
		if r.Header.Get("Upgrade") != "" {
			c, _, err := http.NewResponseController(rw).Hijack()
			if err == nil {
				_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n")
				_ = c.Close()
			}
		}
	})
	w := newWorld(t, "alpha", "beta")
	w.cluster("beta").host("far", catalog.HTTP, serve)
	w.cluster("alpha").host("own", catalog.HTTP, serve)
	w.cluster("alpha").rules = guarded("*")
	w.cluster("beta").rules = guarded("*")
	near := w.cluster("alpha").gateway("gw1", "far", "own")
	w.cluster("beta").gateway("gw1")
	w.start()
	const upgrade = "Connection: upgrade\r\nUpgrade: chat\r\n"
	for name, tt := range map[string]struct {
		line, fields string
		want         int
	}{
		"allowed by prefix":               {"GET /public/a?x=/public/secret/", "", 200},
		"allowed by path, as grpc does":   {"POST /pkg.Service/Method", "Content-Length: 0\r\n", 200},
		"allowed by header":               {"GET /team", "X-Team: blue\r\n", 200},
		"allowed upgrade":                 {"GET /ws", upgrade, 101},
		"absolute form":                   {"GET http://x.default/public/a", "", 200},
		"another method":                  {"PUT /public/a", "Content-Length: 0\r\n", 403},
		"another path":                    {"GET /private", "", 403},
		"another case":                    {"GET /Public/a", "", 403},
		"a deny wins":                     {"GET /public/secret/x", "", 403},
		"a deny in another case":          {"GET /public/SECRET/x", "", 403},
		"upgrade elsewhere":               {"GET /chat", upgrade, 403},
		"upgrade to what is denied":       {"GET /public/secret/ws", upgrade, 403},
		"a header twice":                  {"GET /team", "X-Team: blue\r\nX-Team: red\r\n", 403},
		"a header in two spellings":       {"GET /team", "X-Team: blue\r\nX_Team: red\r\n", 403},
		"two slashes":                     {"GET //public/a", "", 400},
		"two slashes inside":              {"GET /public//secret/a", "", 400},
		"an escaped dot":                  {"GET /public/%2e%2e/private", "", 400},
		"dot segments":                    {"GET /public/../private", "", 400},
		"an escaped slash":                {"GET /public/secret%2fa", "", 400},
		"an escaped letter":               {"GET /public/%73ecret/a", "", 400},
		"escaped twice":                   {"GET /public/%252e%252e/private", "", 400},
		"a parameter":                     {"GET /public/secret;/a", "", 400},
		"a backslash":                     {"GET /public\\..\\private", "", 400},
		"an overlong slash":               {"GET /public/secret%c0%afa", "", 400},
		"an ambiguous path of an upgrade": {"GET /ws/../chat", upgrade, 400},
		"no path at all":                  {"OPTIONS *", "", 400},
	} {
		for way, address := range map[string]string{
			"http, far": near.Addrs().HTTP.String(), "http, own": near.Addrs().HTTP.String(),
			"tcp, far": near.Addrs().TCP[0].String(), "tcp, own": near.Addrs().TCP[1].String(),
		} {
			t.Run(name+"/"+way, func(t *testing.T) {
				reached.Store(nil)
				host := way[len(way)-3:] + ".default"
				line := strings.Replace(tt.line, "x.default", host, 1)
				status, reason := raw(t, address, line+" HTTP/1.1\r\nHost: "+host+"\r\n"+tt.fields+"\r\n")
				if status != tt.want {
					t.Errorf("%d %s, want %d", status, reason, tt.want)
				}
				if p := reached.Load(); p != nil && tt.want >= 400 {
					t.Errorf("%s reached the service", *p)
				} else if p == nil && tt.want < 400 {
					t.Error("the service was not reached")
				}
			})
		}
	}
}

// TestEachRequestOfAConnectionIsJudged: what the first request of a connection may does
// not say what the second may.
func TestEachRequestOfAConnectionIsJudged(t *testing.T) {
	var served atomic.Int64
	w := newWorld(t, "alpha", "beta")
	w.cluster("beta").host("web", catalog.HTTP, httpServer(t, func(http.ResponseWriter, *http.Request) { served.Add(1) }))
	w.cluster("beta").rules = guarded("web.default")
	near := w.cluster("alpha").gateway("gw1", "web")
	w.cluster("beta").gateway("gw1")
	w.start()
	for _, address := range []string{near.Addrs().HTTP.String(), near.Addrs().TCP[0].String()} {
		served.Store(0)
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		r := bufio.NewReader(c)
		for i, want := range []int{200, 403, 200, 400, 200} {
			path := map[int]string{200: "/public/a", 403: "/private", 400: "/public//"}[want]
			_, _ = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: web.default\r\n\r\n", path)
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatalf("request %d: %v", i, err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("request %d: %d, want %d", i, resp.StatusCode, want)
			}
		}
		_ = c.Close()
		if n := served.Load(); n != 3 {
			t.Errorf("%d requests reached the service, want 3", n)
		}
	}
}

// TestConditionsOfAConnectionFailClosed: a port that carries no HTTP shows no request,
// so that an allow with conditions opens nothing and a deny with conditions denies.
func TestConditionsOfAConnectionFailClosed(t *testing.T) {
	w := newWorld(t, "alpha", "beta")
	w.cluster("beta").host("allowed", catalog.TCP, tcpServer(t, echo)).host("denied", catalog.TCP, tcpServer(t, echo)).host("open", catalog.TCP, tcpServer(t, echo))
	callers := []policy.IDPattern{"spiffe://alpha.test/*"}
	conditions := []policy.HTTPCondition{{Methods: []string{"GET"}}}
	w.cluster("beta").rules = []policy.Intention{
		{Name: "a", Services: []policy.ServicePattern{"allowed.default"}, Callers: callers, Action: policy.Allow, HTTP: conditions},
		{Name: "b", Services: []policy.ServicePattern{"denied.default", "open.default"}, Callers: callers, Action: policy.Allow},
		{Name: "c", Services: []policy.ServicePattern{"denied.default"}, Callers: callers, Action: policy.Deny, HTTP: conditions},
	}
	near := w.cluster("alpha").gateway("gw1", "allowed", "denied", "open")
	w.cluster("beta").gateway("gw1")
	w.start()
	for way, name := range []string{"allowed", "denied"} {
		if err := near.refusal(way); err == nil {
			t.Errorf("%s: the connection was served", name)
		}
	}
	c := near.dial(2)
	_, _ = io.WriteString(c, "x")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Errorf("open: %v", err)
	}
}
