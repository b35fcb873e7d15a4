package protocols_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

// web is the far service.
func web() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Seen-Caller", r.Header.Get("X-Forwarded-Client-Cert"))
		w.Header().Set("X-Seen-Host", r.Host)
		_, _ = io.Copy(w, r.Body)
	})
	mux.HandleFunc("/sum", func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		n, err := io.Copy(h, r.Body)
		_, _ = fmt.Fprintf(w, "%d %x %v", n, h.Sum(nil), err)
	})
	mux.HandleFunc("/trailers", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-After")
		_, _ = w.Write(body)
		w.Header().Set("X-After", "seen "+r.Trailer.Get("X-Request-After"))
	})
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			_, _ = fmt.Fprintf(w, "data: %d\n\n", i)
			_ = http.NewResponseController(w).Flush()
			if i == 1 { // the first two must arrive while the answer is open
				select {
				case <-r.Context().Done():
					return
				case <-time.After(500 * time.Millisecond):
				}
			}
		}
	})
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		c.SetReadLimit(1 << 20)
		for {
			kind, data, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if err := c.Write(r.Context(), kind, data); err != nil {
				return
			}
		}
	})
	return mux
}

func TestHTTP(t *testing.T) {
	p := newPair(t)
	ln, a := listen(t)
	p.serve(t, "web", "http", a)
	srv := &http.Server{Handler: web(), ReadHeaderTimeout: time.Minute}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	p.Start()
	const host = "web.default.mesh"
	client := &http.Client{Transport: &http.Transport{}, Timeout: 5 * time.Minute}
	t.Cleanup(client.CloseIdleConnections)
	// do returns an answer whose body is read and closed.
	do := func(t *testing.T, req *http.Request) (*http.Response, string) {
		t.Helper()
		req.Host = host
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(body)
	}
	request := func(t *testing.T, method, path string, body io.Reader) *http.Request {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+p.http()+path, body)
		if err != nil {
			t.Fatal(err)
		}
		return req
	}
	stand.Eventually(t, time.Minute, "web answers", func() error {
		req := request(t, http.MethodGet, "/echo", nil)
		req.Host = host
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusOK {
			body, _ := io.ReadAll(resp.Body)
			return fmt.Errorf("%s %s", resp.Status, body)
		}
		return nil
	})

	t.Run("caller is handed on, a forged one is not", func(t *testing.T) {
		req := request(t, http.MethodPost, "/echo", strings.NewReader("x"))
		req.Header.Set("X-Forwarded-Client-Cert", "URI=spiffe://evil.test/admin")
		resp, body := do(t, req) //nolint:bodyclose // do closes it
		seen := resp.Header.Get("X-Seen-Caller")
		if body != "x" || !strings.Contains(seen, "URI="+p.east.Caller()) || strings.Contains(seen, "evil") {
			t.Fatalf("%s, body %q, the service saw caller %q", resp.Status, body, seen)
		}
	})
	t.Run("trailers both ways", func(t *testing.T) {
		req := request(t, http.MethodPost, "/trailers", io.MultiReader(strings.NewReader("body")))
		req.Trailer = http.Header{"X-Request-After": {"sent"}}
		resp, body := do(t, req) //nolint:bodyclose // do closes it
		if body != "body" || resp.Trailer.Get("X-After") != "seen sent" {
			t.Fatalf("body %q, trailers %v", body, resp.Trailer)
		}
	})
	t.Run("server-sent events arrive as they are sent", func(t *testing.T) {
		req := request(t, http.MethodGet, "/events", nil)
		req.Host = host
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		r := bufio.NewReader(resp.Body)
		var at []time.Time
		for i := range 3 {
			line, err := r.ReadString('\n')
			if want := fmt.Sprintf("data: %d\n", i); err != nil || line != want {
				t.Fatalf("%q, %v; want %q", line, err, want)
			}
			at = append(at, time.Now())
			if _, err := r.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		if gap := at[2].Sub(at[1]); gap < 100*time.Millisecond {
			t.Errorf("the third event came %s after the second: the answer was held back", gap)
		}
	})
	t.Run("websocket", func(t *testing.T) { echoWebSocket(t, p.http(), host) })
	t.Run("100 MiB upload", func(t *testing.T) {
		data := make([]byte, 100<<20)
		_, _ = rand.Read(data)
		begin := time.Now()
		_, body := do(t, request(t, http.MethodPost, "/sum", bytes.NewReader(data))) //nolint:bodyclose // do closes it
		if want := fmt.Sprintf("%d %x <nil>", len(data), sha256.Sum256(data)); body != want {
			t.Fatalf("got %q, want %q", body, want)
		}
		stand.Figure(t, "100 MiB in %.1f s", time.Since(begin).Seconds())
	})
	t.Run("http/2 in clear text", func(t *testing.T) {
		protocols := new(http.Protocols)
		protocols.SetUnencryptedHTTP2(true)
		h2 := &http.Client{Transport: &http.Transport{Protocols: protocols}}
		defer h2.CloseIdleConnections()
		req := request(t, http.MethodPost, "/echo", strings.NewReader("two"))
		req.Host = host
		resp, err := h2.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.ProtoMajor != 2 || string(body) != "two" {
			t.Fatalf("%s %q %v", resp.Proto, body, err)
		}
	})
	t.Run("unknown service", func(t *testing.T) {
		req := request(t, http.MethodGet, "/", nil)
		req.Host = "nobody.default.mesh"
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusNotFound || resp.Header.Get("Isthmus-Reason") == "" {
			t.Errorf("%s, reason %q", resp.Status, resp.Header.Get("Isthmus-Reason"))
		}
	})
	t.Run("pipelined requests are answered in order", func(t *testing.T) { pipeline(t, p.http(), host) })
	t.Run("malformed requests are refused", func(t *testing.T) { malformed(t, p.http(), host) })
}

func echoWebSocket(t *testing.T, way, host string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, resp, err := websocket.Dial(ctx, "ws://"+way+"/ws", &websocket.DialOptions{Host: host})
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body != nil {
		defer func() { _ = resp.Body.Close() }()
	}
	c.SetReadLimit(1 << 20)
	for _, size := range []int{1, 1000, 500_000} {
		msg := bytes.Repeat([]byte("w"), size)
		if err := c.Write(ctx, websocket.MessageBinary, msg); err != nil {
			t.Fatal(err)
		}
		_, got, err := c.Read(ctx)
		if err != nil || !bytes.Equal(got, msg) {
			t.Fatalf("%d bytes: got %d, %v", size, len(got), err)
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Errorf("close handshake: %v", err)
	}
}

func pipeline(t *testing.T, way, host string) {
	c := rawDial(t, way)
	var all strings.Builder
	for i := range 5 {
		fmt.Fprintf(&all, "POST /echo HTTP/1.1\r\nHost: %s\r\nContent-Length: 2\r\n\r\nr%d", host, i)
	}
	if _, err := io.WriteString(c, all.String()); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	for i := range 5 {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if want := fmt.Sprintf("r%d", i); err != nil || string(body) != want {
			t.Fatalf("%q, %v; want %q", body, err, want)
		}
	}
}

func malformed(t *testing.T, way, host string) {
	for name, text := range map[string]string{
		"te and cl":           "POST /echo HTTP/1.1\r\nHost: " + host + "\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
		"two content lengths": "POST /echo HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"two hosts":           "GET /echo HTTP/1.1\r\nHost: " + host + "\r\nHost: other.default.mesh\r\n\r\n",
		"no host":             "GET /echo HTTP/1.1\r\n\r\n",
		"folded header":       "GET /echo HTTP/1.1\r\nHost: " + host + "\r\nX-A: b\r\n c\r\n\r\n",
		"space before colon":  "GET /echo HTTP/1.1\r\nHost : " + host + "\r\n\r\n",
		"bad chunk size":      "POST /echo HTTP/1.1\r\nHost: " + host + "\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
		"unknown encoding":    "POST /echo HTTP/1.1\r\nHost: " + host + "\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"nul in a header":     "GET /echo HTTP/1.1\r\nHost: " + host + "\r\nX-A: a\x00b\r\n\r\n",
		"no method":           " /echo HTTP/1.1\r\nHost: " + host + "\r\n\r\n",
		"not http":            "\x16\x03\x01 this is no request\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := rawDial(t, way)
			if _, err := io.WriteString(c, text); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				return // closed without an answer is a refusal, too
			}
			defer func() { _ = resp.Body.Close() }()
			if resp.StatusCode < 400 || resp.StatusCode >= 500 && resp.StatusCode != http.StatusNotImplemented && resp.StatusCode != http.StatusBadGateway {
				t.Errorf("answered %s", resp.Status)
			}
			if resp.Header.Get("X-Seen-Host") != "" {
				t.Error("the request reached the service")
			}
		})
	}
}

func rawDial(t *testing.T, way string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", way, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}
