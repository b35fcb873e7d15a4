package gateway_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/gateway/relay"
)

// httpServer serves a handler over HTTP/1.1 and h2c on a real socket.
func httpServer(t *testing.T, h http.HandlerFunc) net.Addr {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr()
}

// client returns a client whose every connection goes to the node's HTTP way.
func (n *node) client() *http.Client {
	address := n.Addrs().HTTP.String()
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
		MaxIdleConnsPerHost: 100,
	}
	n.cluster.world.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 60 * time.Second}
}

// get asks the near gateway for a URL of the mesh.
func get(t *testing.T, c *http.Client, url string) (status int, header http.Header, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(t, c, req)
}

func do(t *testing.T, c *http.Client, req *http.Request) (status int, header http.Header, body string) {
	t.Helper()
	resp, err := c.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: body: %v", req.Method, req.URL, err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

// who answers with what it was asked as.
func who(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"name": name, "host": r.Host, "proto": r.Proto, "path": r.RequestURI, "fields": r.Header})
	}
}

type answer struct {
	Name, Host, Proto, Path string
	Fields                  http.Header
}

func parse(t *testing.T, body string) (a answer) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		t.Fatalf("%v: %q", err, body)
	}
	return a
}

// twoClusters is alpha, whose gateway callers use, and beta, which has the service.
func twoClusters(t *testing.T, service string, protocol catalog.Protocol, addresses ...net.Addr) (near *node, w *world) {
	t.Helper()
	w = newWorld(t, "alpha", "beta")
	w.cluster("beta").host(service, protocol, addresses...)
	near = w.cluster("alpha").gateway("gw1", service)
	w.cluster("beta").gateway("gw1")
	w.start()
	return near, w
}

func TestWhatTheServiceSees(t *testing.T) {
	near, w := twoClusters(t, "billing", catalog.HTTP, httpServer(t, who("billing")))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://BILLING.default.mesh.:7080/a//b/%2e%2e/c?x=1;y=%zz", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"X-Forwarded-Client-Cert": "URI=spiffe://beta.test/root", "x_forwarded_client_cert": "URI=spiffe://beta.test/root",
		"X-Forwarded-For": "6.6.6.6", "Forwarded": "for=6.6.6.6", "X-Real-Ip": "6.6.6.6", "Isthmus-Caller": "spiffe://beta.test/root",
		"Isthmus_caller": "spiffe://beta.test/root", "Connection": "X-Secret, X-Forwarded-Client-Cert", "X-Secret": "1", "X-Kept": "2",
	} {
		req.Header[name] = []string{value} // not canonical, as a hostile client would
	}
	status, header, body := do(t, near.client(), req)
	got := parse(t, body)
	if status != http.StatusOK || got.Host != "BILLING.default.mesh.:7080" || got.Proto != "HTTP/1.1" || got.Path != "/a//b/%2e%2e/c?x=1;y=%zz" {
		t.Fatalf("%d %+v", status, got)
	}
	want := map[string]string{
		"X-Forwarded-Client-Cert": "By=" + w.cluster("beta").id() + "/gateway/gw1;URI=" + w.cluster("alpha").caller(),
		"X-Forwarded-For":         "127.0.0.1", "X-Forwarded-Host": "BILLING.default.mesh.:7080", "X-Forwarded-Proto": "http", "X-Kept": "2",
		"Accept-Encoding": "gzip", "User-Agent": "Go-http-client/1.1", "X-Request-Id": header.Get("X-Request-Id"),
	}
	for name, value := range want {
		if got.Fields.Get(name) != value || len(got.Fields[name]) != 1 {
			t.Errorf("%s is %q, want %q", name, got.Fields[name], value)
		}
		delete(got.Fields, name)
	}
	if len(got.Fields) != 0 {
		t.Errorf("unexpected fields: %v", got.Fields)
	}
}

func TestTheCallerIsHandedOnByTheTCPWayToo(t *testing.T) {
	w := newWorld(t, "alpha", "beta")
	w.cluster("beta").host("far", catalog.HTTP, httpServer(t, who("far")))
	w.cluster("alpha").host("near", catalog.HTTP, httpServer(t, who("near")))
	near := w.cluster("alpha").gateway("gw1", "far", "near")
	w.cluster("beta").gateway("gw1")
	w.start()
	for way, by := range []string{w.cluster("beta").id(), w.cluster("alpha").id()} {
		callByTCP(t, near, way, "By="+by+"/gateway/gw1;URI="+w.cluster("alpha").caller())
	}
}

func callByTCP(t *testing.T, near *node, way int, want string) {
	t.Helper()
	c, err := net.Dial("tcp", near.Addrs().TCP[way].String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// Two requests on one connection, the second after a half-close's worth of
	// pipelining; the first tries to be somebody else.
	_, _ = io.WriteString(c, "GET /1 HTTP/1.1\r\nHost: x\r\nX-Forwarded-Client-Cert: URI=spiffe://beta.test/root\r\n\r\n"+
		"GET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
	_ = c.(*net.TCPConn).CloseWrite()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	r := bufio.NewReader(c)
	for _, path := range []string{"/1", "/2"} {
		resp, err := http.ReadResponse(r, nil) //nolint:bodyclose // read to its end below
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		got := parse(t, string(b))
		if got.Path != path || got.Fields.Get("X-Forwarded-Client-Cert") != want {
			t.Errorf("way %d: %+v", way, got)
		}
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("way %d: after the last answer: %v, want EOF", way, err)
	}
}

func TestUploadOf100MiB(t *testing.T) {
	near, _ := twoClusters(t, "store", catalog.HTTP, httpServer(t, func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		n, err := io.Copy(h, r.Body)
		_, _ = fmt.Fprintf(w, "%d %v %x %s", n, err, h.Sum(nil), r.Trailer.Get("X-Sum"))
	}))
	size := int64(100 << 20)
	if raceEnabled {
		size = 32 << 20 // several windows still
	}
	h := sha256.New()
	client := near.client()
	client.Timeout = 0 // a busy machine takes minutes, and the test has a timeout of its own
	for _, length := range []int64{size, -1} {
		h.Reset()
		source := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{7}), size), h)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://store.default.mesh/", source)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = length
		start := time.Now()
		_, _, got := do(t, client, req)
		t.Logf("length %d: %.0f MB/s", length, float64(size)/1e6/time.Since(start).Seconds())
		if want := fmt.Sprintf("%d <nil> %s ", size, hex.EncodeToString(h.Sum(nil))); got != want {
			t.Errorf("length %d: got %q, want %q", length, got, want)
		}
	}
}

func TestTrailersBothWays(t *testing.T) {
	near, _ := twoClusters(t, "sums", catalog.HTTP, httpServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Answer")
		_, _ = io.Copy(w, r.Body)
		w.Header().Set("X-Answer", "question was "+r.Trailer.Get("X-Question")+" "+r.Trailer.Get("X-Forwarded-Client-Cert"))
		w.Header().Set(http.TrailerPrefix+"X-Late", "unannounced")
	}))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://sums.default.mesh/", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = -1
	req.Trailer = http.Header{"X-Question": {"why"}, "X-Forwarded-Client-Cert": {"URI=spiffe://beta.test/root"}}
	resp, err := near.client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || string(b) != "body" || resp.Trailer.Get("X-Answer") != "question was why" || resp.Trailer.Get("X-Late") != "unannounced" {
		t.Fatalf("%q, %v, %v", b, err, resp.Trailer)
	}
}

func TestServerSentEventsComeAsTheyAreSent(t *testing.T) {
	step := make(chan struct{})
	gone := make(chan struct{})
	near, _ := twoClusters(t, "news", catalog.HTTP, httpServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		flush := http.NewResponseController(w).Flush
		_ = flush()
		for i := 0; ; i++ {
			select {
			case <-step:
				_, _ = fmt.Fprintf(w, "data: %d\n\n", i)
				_ = flush()
			case <-r.Context().Done():
				close(gone)
				return
			}
		}
	}))
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://news.default.mesh/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := near.client().Do(req)
	if err != nil {
		t.Fatal(err) // the header is here before any event
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	for i := range 3 {
		step <- struct{}{} // the next is only sent once this one was read
		line, err := lines.ReadString('\n')
		if err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("%q, %v", line, err)
		}
		_, _ = lines.ReadString('\n')
	}
	cancel()
	select {
	case <-gone:
	case <-time.After(20 * time.Second):
		t.Fatal("the service was not told that the caller went away")
	}
}

func TestWebSocket(t *testing.T) {
	echo := httpServer(t, func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"echo"}})
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(1 << 20)
		_ = c.Write(r.Context(), websocket.MessageText, []byte(r.Header.Get("X-Forwarded-Client-Cert")))
		for {
			kind, b, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if err := c.Write(r.Context(), kind, b); err != nil {
				return
			}
		}
	})
	w := newWorld(t, "alpha", "beta")
	w.cluster("beta").host("far", catalog.HTTP, echo)
	w.cluster("alpha").host("near", catalog.HTTP, echo)
	near := w.cluster("alpha").gateway("gw1")
	w.cluster("beta").gateway("gw1")
	w.start()
	for service, by := range map[string]string{"far": w.cluster("beta").id(), "near": w.cluster("alpha").id()} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		c, resp, err := websocket.Dial(ctx, "ws://"+service+".default.mesh/chat", &websocket.DialOptions{ //nolint:bodyclose // an upgrade has none
			HTTPClient: near.client(), Subprotocols: []string{"echo"},
			HTTPHeader: http.Header{"X-Forwarded-Client-Cert": {"URI=spiffe://beta.test/root"}},
		})
		if err != nil {
			t.Fatalf("%s: %v", service, err)
		}
		if c.Subprotocol() != "echo" || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Errorf("%s: %q, %d", service, c.Subprotocol(), resp.StatusCode)
		}
		c.SetReadLimit(1 << 20)
		if _, b, err := c.Read(ctx); err != nil || string(b) != "By="+by+"/gateway/gw1;URI="+w.cluster("alpha").caller() {
			t.Errorf("%s: caller %q, %v", service, b, err)
		}
		for _, size := range []int{1, 1000, 300_000} {
			message := make([]byte, size)
			if err := c.Write(ctx, websocket.MessageBinary, message); err != nil {
				t.Fatal(err)
			}
			if _, b, err := c.Read(ctx); err != nil || len(b) != size {
				t.Fatalf("%s: %d of %d bytes, %v", service, len(b), size, err)
			}
		}
		if err := c.Close(websocket.StatusNormalClosure, "done"); err != nil {
			t.Errorf("%s: close: %v", service, err)
		}
		cancel()
	}
}

// TestADeclinedUpgradeStaysHTTP: what follows on the connection is judged like any
// request; nothing slips through to the service behind its back.
func TestADeclinedUpgradeStaysHTTP(t *testing.T) {
	near, _ := twoClusters(t, "plain", catalog.HTTP, httpServer(t, who("plain")))
	c, err := net.Dial("tcp", near.Addrs().HTTP.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(c, "GET /1 HTTP/1.1\r\nHost: plain.default\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n"+
		"GET /2 HTTP/1.1\r\nHost: plain.default\r\nX-Forwarded-Client-Cert: URI=spiffe://beta.test/root\r\n\r\n")
	r := bufio.NewReader(c)
	for _, path := range []string{"/1", "/2"} {
		resp, err := http.ReadResponse(r, nil) //nolint:bodyclose // read to its end below
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		got := parse(t, string(b))
		if resp.StatusCode != http.StatusOK || got.Path != path || strings.Contains(got.Fields.Get(relay.ForwardedClientCert), "root") {
			t.Errorf("%d %+v", resp.StatusCode, got)
		}
	}
}
