package api_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/api"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
)

func TestLoopbackAsksForTheToken(t *testing.T) {
	s := newStand(t)
	for _, c := range []struct {
		name, header string
		status       int
	}{
		{"right", "Authorization: Bearer " + s.token, 200},
		{"scheme in lower case", "Authorization: bearer " + s.token, 200},
		{"none", "Authorization: ", 401},
		{"empty", "Authorization: Bearer ", 401},
		{"wrong", "Authorization: Bearer " + strings.Repeat("A", len(s.token)), 401},
		{"a part", "Authorization: Bearer " + s.token[:len(s.token)-1], 401},
		{"more", "Authorization: Bearer " + s.token + "A", 401},
		{"basic", "Authorization: Basic " + s.token, 401},
		{"bare", "Authorization: " + s.token, 401},
		{"in another header", "X-Authorization: Bearer " + s.token, 200}, // and the right one beside it
	} {
		got := s.ask(t, "GET", "/v1/version", "", c.header)
		if got.status != c.status {
			t.Errorf("%s: status %d, want %d", c.name, got.status, c.status)
		}
		if c.status == http.StatusUnauthorized {
			p := got.problem(t)
			if !strings.HasSuffix(p.Type, string(api.CodeUnauthorized)) || !strings.HasPrefix(got.header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("%s: %s, WWW-Authenticate %q", c.name, p.Type, got.header.Get("WWW-Authenticate"))
			}
			if strings.Contains(got.body, s.token) {
				t.Errorf("%s: the refusal tells the token", c.name)
			}
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.address+"/v1/version", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header["Authorization"] = []string{"Bearer " + s.token, "Bearer x"}
	if got := s.do(t, req); got.status != http.StatusUnauthorized {
		t.Errorf("two Authorization headers: status %d, want 401", got.status)
	}
}

func TestEveryWriteAsksForTheToken(t *testing.T) {
	s := newStand(t)
	for _, c := range []struct{ method, path string }{
		{"POST", "/v1/exports"},
		{"PUT", "/v1/intentions/a"},
		{"DELETE", "/v1/imports/a"},
		{"POST", "/v1/sources/consul/release"},
		{"GET", "/v1/explain?service=web"},
		{"GET", "/v1/services?watch=true"},
		{"GET", "/nothing"},
	} {
		if got := s.ask(t, c.method, c.path, "", "Authorization: "); got.status != http.StatusUnauthorized {
			t.Errorf("%s %s without the token: status %d, want 401", c.method, c.path, got.status)
		}
	}
}

func TestSocketAsksForNothing(t *testing.T) {
	s := newStand(t)
	if v, err := s.socketed.Version(t.Context()); err != nil || v.Cluster != "east" {
		t.Fatalf("Version over the socket = %+v, %v", v, err)
	}
	info, err := os.Stat(s.socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("socket has mode %v, %v; want 0600", info.Mode().Perm(), err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(s.socket), ".*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A page that a browser was led to by a foreign name, or a form of another site,
// reaches nothing, not even with the token.
func TestForeignHostsAndSitesAreRefused(t *testing.T) {
	s := newStand(t)
	_, port, err := net.SplitHostPort(s.address)
	if err != nil {
		t.Fatal(err)
	}
	for host, status := range map[string]int{
		s.address:                  200,
		"localhost:" + port:        200,
		"LOCALHOST":                200,
		"[::1]:" + port:            200,
		"[::ffff:127.0.0.1]:80":    200,
		"evil.example:" + port:     421,
		"evil.example":             421,
		"localhost.evil.example":   421,
		"127.0.0.1.evil.example":   421,
		"10.0.0.1:" + port:         421,
		"169.254.169.254":          421,
		"127.0.0.1@evil.example:1": 421,
	} {
		for _, path := range []string{"/v1/version", "/metrics", "/openapi.json"} {
			if got := s.ask(t, "GET", path, "", "Host: "+host); got.status != status && got.status != 400 || (status == 200) != (got.status == 200) {
				t.Errorf("GET %s with Host %s: status %d, want %d", path, host, got.status, status)
			}
		}
	}
	got := s.ask(t, "POST", "/v1/exports", exportJSON, "Sec-Fetch-Site: cross-site")
	if p := got.problem(t); got.status != http.StatusForbidden || !strings.HasSuffix(p.Type, string(api.CodeCrossOrigin)) {
		t.Errorf("cross-site POST = %d %s", got.status, got.body)
	}
	got = s.ask(t, "GET", "/v1/version", "", "Origin: http://evil.example")
	for h := range got.header {
		if strings.HasPrefix(h, "Access-Control-") {
			t.Errorf("answer to another origin has %s", h)
		}
	}
}

func TestHealthListenerAnswersNothingElse(t *testing.T) {
	s := newStand(t)
	h := s.server.Handler(api.Health)
	for path, want := range map[string]int{
		"/healthz": 200, "/readyz": 200, "/metrics": 200, "//metrics": 404, "/v1/services": 404, "/openapi.json": 404, "/": 404, "/healthz/": 404,
	} {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "http://10.0.0.1:7481/", nil)
		r.URL.Path = path
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != want {
			t.Errorf("GET %s = %d, want %d", path, w.Code, want)
		}
	}
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", "/readyz", nil)); w.Code == 200 {
		t.Errorf("POST /readyz = 200")
	}
}

func TestOpenPathsTellNothingOfTheCluster(t *testing.T) {
	s := newStand(t)
	for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": "{\"ready\":true}\n"} {
		if got := s.ask(t, "GET", path, "", "Authorization: "); got.status != 200 || got.body != want {
			t.Errorf("GET %s = %+v", path, got)
		}
	}
	s.backend.notReady.Store(new([]string{"identity: no svid"}))
	if got := s.ask(t, "GET", "/readyz", "", "Authorization: "); got.status != 503 || !strings.Contains(got.body, "identity: no svid") {
		t.Errorf("GET /readyz = %+v; want 503 with the culprit", got)
	}
	var se *client.StatusError
	if err := s.socketed.Ready(t.Context()); !errors.As(err, &se) || se.Status != 503 {
		t.Errorf("Ready = %v, want status 503", err)
	}
}

func TestMetricsCountByRouteAndNotByPath(t *testing.T) {
	s := newStand(t)
	for _, path := range []string{"/v1/exports/a", "/v1/exports/b", "/nothing/1", "/nothing/2"} {
		s.ask(t, "GET", path, "")
	}
	s.ask(t, "BREW", "/v1/version", "")
	got := s.ask(t, "GET", "/metrics", "", "Authorization: ")
	for _, want := range []string{
		`isthmus_federation_api_requests_total{code="404",method="GET",route="/v1/exports/{name}"} 2`,
		`isthmus_federation_api_requests_total{code="404",method="GET",route="other"} 2`,
		`isthmus_federation_api_requests_total{code="405",method="other",route="other"} 1`,
	} {
		if !strings.Contains(got.body, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

func TestLimits(t *testing.T) {
	s := newStand(t)
	t.Run("a header beyond 16 KiB", func(t *testing.T) {
		c, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		// net/http allows 4 KiB of slop over MaxHeaderBytes.
		_, _ = fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n", strings.Repeat("x", 21<<10))
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("status %d, want 431", resp.StatusCode)
		}
	})
	t.Run("two lengths", func(t *testing.T) {
		c, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		_, _ = io.WriteString(c, "POST /v1/exports HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("status %d, want 400", resp.StatusCode)
		}
	})
}

func TestToken(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "data", "api.token")
	first, _, err := api.LoadToken(path)
	if err != nil || len(first) < 43 {
		t.Fatalf("LoadToken = %q, %v; want 32 random bytes", first, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("token file has mode %v, %v", info.Mode().Perm(), err)
	}
	if again, _, err := api.LoadToken(path); err != nil || again != first {
		t.Fatalf("LoadToken again = %q, %v; want the same", again, err)
	}
	if other, _, err := api.LoadToken(filepath.Join(dir, "other.token")); err != nil || other == first {
		t.Fatalf("another file has the same token, %v", err)
	}
	for name, c := range map[string]struct {
		content string
		mode    os.FileMode
	}{
		"readable by others": {first, 0o644},
		"short":              {"secret", 0o600},
		"two lines":          {first + "\n" + first, 0o600},
		"empty":              {"", 0o600},
		"huge":               {strings.Repeat("x", 1000), 0o600},
	} {
		bad := filepath.Join(dir, "bad.token")
		if err := errors.Join(os.WriteFile(bad, []byte(c.content), c.mode), os.Chmod(bad, c.mode)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := api.LoadToken(bad); err == nil {
			t.Errorf("%s: was accepted", name)
		} else if strings.Contains(err.Error(), first) {
			t.Errorf("%s: the error tells the token", name)
		}
	}
}

func TestListenSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "api.sock")
	l, err := api.ListenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.ListenSocket(path); err == nil {
		t.Fatal("a socket that answers was taken over")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("Close left the socket behind")
	}
	// What a killed process leaves behind is replaced.
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	l, err = api.ListenSocket(path)
	if err != nil {
		t.Fatalf("a dead socket was not replaced: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := api.ListenSocket(path); err == nil {
		t.Error("a file was replaced by a socket")
	}
}

func TestOpenAPIDescribesTheHandlers(t *testing.T) {
	s := newStand(t)
	got := s.ask(t, "GET", "/openapi.json", "")
	var doc struct {
		OpenAPI string `json:"openapi"`
		Paths   map[string]map[string]struct {
			OperationID string `json:"operationId"`
			Parameters  []struct {
				Name, In string
				Required bool
			} `json:"parameters"`
			RequestBody any `json:"requestBody"`
			Responses   map[string]struct {
				Content map[string]struct {
					Schema struct {
						Ref string `json:"$ref"`
					} `json:"schema"`
				} `json:"content"`
			} `json:"responses"`
		} `json:"paths"`
		Components struct {
			Schemas map[string]json.RawMessage `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal([]byte(got.body), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.OpenAPI != "3.1.0" || got.header.Get("Content-Type") != "application/openapi+json" {
		t.Errorf("openapi %q, content type %q", doc.OpenAPI, got.header.Get("Content-Type"))
	}
	// Every reference leads somewhere.
	for _, part := range strings.Split(got.body, `"$ref":"`)[1:] {
		ref, _, _ := strings.Cut(part, `"`)
		name, ok := strings.CutPrefix(ref, "#/components/schemas/")
		if _, found := doc.Components.Schemas[name]; !ok || !found {
			t.Errorf("reference %s leads nowhere", ref)
		}
	}
	ids, operations := map[string]string{}, 0
	for path, methods := range doc.Paths {
		for method, op := range methods {
			operations++
			if op.OperationID == "" || ids[op.OperationID] != "" {
				t.Errorf("%s %s has the operation id %q of %q", method, path, op.OperationID, ids[op.OperationID])
			}
			ids[op.OperationID] = method + " " + path
			for status, r := range op.Responses {
				if c, ok := r.Content["application/problem+json"]; status >= "400" && (!ok || c.Schema.Ref != "#/components/schemas/Problem") {
					t.Errorf("%s %s: answer %s is no problem: %+v", method, path, status, r)
				}
			}
			// The handler is there: whatever it says, it is neither 404 of the mux
			// nor 405.
			answer := s.ask(t, strings.ToUpper(method), strings.ReplaceAll(path, "{name}", "x"), "")
			if answer.status == http.StatusMethodNotAllowed || strings.Contains(answer.body, "no such resource") {
				t.Errorf("%s %s is documented and not served: %s", method, path, answer.body)
			}
			status := fmt.Sprint(answer.status)
			if _, documented := op.Responses[status]; !documented {
				t.Errorf("%s %s answers %s, which is not documented: %s", method, path, status, answer.body)
			}
		}
	}
	// 12 kinds listed, 5 got by name besides the rules, 3 writes of peers, 4
	// operations on each of 4 kinds of rules, what a set applied (read, forget one),
	// explain, version, release: fewer would mean that some are not documented.
	if least := 12 + 5 + 3 + 4*4 + 2 + 3; operations < least {
		t.Errorf("%d operations are documented, at least %d are: %v", operations, least, ids)
	}
}

// The end of serving ends streams at once.
func TestStopEndsStreams(t *testing.T) {
	s := newStand(t)
	ended, began := make(chan error, 1), make(chan struct{})
	go func() {
		var last error
		for e, err := range s.socketed.Services().Watch(t.Context(), 0) {
			if last = err; e.Type == resource.Synced {
				close(began)
			}
		}
		ended <- last
	}()
	<-began
	s.stop()
	if err := <-ended; err == nil {
		t.Error("the watch ended without an error")
	}
}
