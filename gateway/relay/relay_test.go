package relay_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/relay"
	"github.com/isthmus-mesh/isthmus/gateway/splice"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStripKnowsEverySpelling(t *testing.T) {
	h := http.Header{}
	for _, name := range []string{
		"X-Forwarded-Client-Cert", "x-forwarded-client-cert", "X_Forwarded_Client_Cert", "x-forwarded_client-cert",
		"X-Forwarded-For", "x_forwarded_for", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "Forwarded", "FORWARDED",
		"X-Real-Ip", "X_Real_IP", "True-Client-Ip", "Isthmus-Caller", "isthmus-anything", "Isthmus_caller",
	} {
		h[name] = []string{"spoofed"}
	}
	kept := map[string]string{"X-Forward": "1", "Isthmus": "2", "X-Request-Id": "3", "Authorization": "4", "X_Own": "5"}
	for name, value := range kept {
		h[name] = []string{value}
	}
	relay.Strip(h)
	for name, value := range kept {
		if len(h[name]) != 1 || h[name][0] != value {
			t.Errorf("%s is gone", name)
		}
		delete(h, name)
	}
	if len(h) != 0 {
		t.Errorf("left: %v", h)
	}
}

// A peer's gateway says where a request came from, and names no caller to a service.
func TestStripOfAPeersGateway(t *testing.T) {
	h := http.Header{
		"X-Forwarded-For": {"192.0.2.1"}, "X-Forwarded-Host": {"web"}, "X-Forwarded-Proto": {"http"}, "X-Tenant": {"acme"},
		"X_forwarded_client_cert": {"URI=spiffe://own.test/root"}, "X_Forwarded_Client_Cert": {"URI=spiffe://own.test/root"},
		"X-Forwarded-Client-Cert": {"URI=spiffe://own.test/root"}, "X_Forwarded_For": {"10.0.0.1"}, "X-Real-Ip": {"10.0.0.1"}, "Isthmus_Caller": {"x"},
	}
	relay.StripRelayed(h)
	want := http.Header{"X-Forwarded-For": {"192.0.2.1"}, "X-Forwarded-Host": {"web"}, "X-Forwarded-Proto": {"http"}, "X-Tenant": {"acme"}}
	if !reflect.DeepEqual(h, want) {
		t.Errorf("left are %v, want %v", h, want)
	}
}

func TestSetCaller(t *testing.T) {
	h := http.Header{relay.ForwardedClientCert: {"spoofed", "twice"}}
	relay.SetCaller(h, "spiffe://a.test/gw", "spiffe://a.test/w")
	if got := h[relay.ForwardedClientCert]; len(got) != 1 || got[0] != "By=spiffe://a.test/gw;URI=spiffe://a.test/w" {
		t.Errorf("%q", got)
	}
	relay.SetCaller(h, "spiffe://a.test/gw", "")
	if got, ok := h[relay.ForwardedClientCert]; ok {
		t.Errorf("an anonymous caller is %q", got)
	}
}

func TestProblems(t *testing.T) {
	write := func(r *http.Request, status int) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		relay.WriteProblem(w, r, relay.Problem{Status: status, Reason: "no_endpoint", Service: "web.default", Cluster: "beta", Detail: "d\u00e9tail"})
		return w
	}
	resp := write(httptest.NewRequest(http.MethodGet, "/", nil), http.StatusServiceUnavailable)
	var p relay.Problem
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
		t.Fatal(err)
	}
	want := relay.Problem{
		Type: "urn:isthmus:reason:no_endpoint", Title: "Service Unavailable", Status: 503, Detail: "d\u00e9tail",
		Reason: "no_endpoint", Service: "web.default", Cluster: "beta",
	}
	if p != want || resp.Code != 503 || resp.Header().Get("Content-Type") != "application/problem+json" || resp.Header().Get(relay.ReasonField) != "no_endpoint" || resp.Header().Get("Retry-After") == "" {
		t.Errorf("%d %v %+v", resp.Code, resp.Header(), p)
	}
	head := write(httptest.NewRequest(http.MethodHead, "/", nil), http.StatusNotFound)
	if b, _ := io.ReadAll(head.Body); len(b) != 0 || head.Code != 404 {
		t.Errorf("HEAD: %d %q", head.Code, b)
	}
	for status, code := range map[int]string{400: "13", 403: "7", 404: "12", 405: "12", 429: "8", 502: "14", 503: "14", 504: "4"} {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.Header.Set("Content-Type", "application/grpc+proto")
		got := write(r, status)
		b, _ := io.ReadAll(got.Body)
		message := got.Header().Get("Grpc-Message")
		if got.Code != 200 || got.Header().Get("Grpc-Status") != code || len(b) != 0 || got.Header().Get("Content-Type") != "application/grpc" {
			t.Errorf("%d: %d %v %q", status, got.Code, got.Header(), b)
		}
		if strings.ContainsFunc(message, func(r rune) bool { return r <= ' ' || r > '~' }) || !strings.Contains(message, "no_endpoint") {
			t.Errorf("%d: message %q", status, message)
		}
	}
}

func TestWhatIsAnUpgrade(t *testing.T) {
	for head, want := range map[string]bool{
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n":                                   true,
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, upgrade\r\nUpgrade: chat\r\n\r\n":                            true,
		"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n":                                                          false,
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\r\n":                                                         false,
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n":                         false,
		"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat\r\nContent-Length: 1\r\n\r\nx":                 false,
		"GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n":                                   false,
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": false,
	} {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head)))
		if err != nil {
			t.Fatal(err)
		}
		if got := relay.IsUpgrade(r); got != want {
			t.Errorf("%q: %v", head, got)
		}
	}
}

func TestUpgradeRequestBelongsToTheNextHop(t *testing.T) {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET /chat?x=1 HTTP/1.1\r\nHost: web.default.mesh\r\n" +
		"Connection: Upgrade, X-Hop\r\nUpgrade: websocket\r\nX-Hop: 1\r\nX-Kept: 2\r\nKeep-Alive: 3\r\n\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	b, err := relay.UpgradeRequest(r, func(h http.Header) { h.Set("X-Added", "4") })
	if err != nil {
		t.Fatal(err)
	}
	out, err := http.ReadRequest(bufio.NewReader(strings.NewReader(string(b))))
	if err != nil {
		t.Fatal(err)
	}
	want := http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "X-Kept": {"2"}, "X-Added": {"4"}}
	if out.RequestURI != "/chat?x=1" || out.Host != "web.default.mesh" || len(out.Header) != len(want) {
		t.Fatalf("%q", b)
	}
	for name, values := range want {
		if out.Header.Get(name) != values[0] {
			t.Errorf("%s is %q", name, out.Header[name])
		}
	}
}

// answer runs ReadAnswer on what a service says.
func answer(t *testing.T, says string) (*relay.Answer, error) {
	t.Helper()
	backend, service := net.Pipe()
	t.Cleanup(func() { _ = backend.Close(); _ = service.Close() })
	go func() {
		_, _ = io.WriteString(service, says)
		_ = service.Close()
	}()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://a/", nil)
	if err != nil {
		t.Fatal(err)
	}
	return relay.ReadAnswer(splice.TCP(backend), r)
}

func TestAnswersToAnUpgrade(t *testing.T) {
	ask := &http.Request{Header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}}
	a, err := answer(t, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\nIsthmus-Reason: x\r\n\r\nraw")
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := a.Switched(ask); !ok || err != nil || a.Header.Get("Isthmus-Reason") != "" {
		t.Errorf("%v, %v, %v", ok, err, a.Header)
	}
	a, err = answer(t, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Switched(ask); err == nil {
		t.Error("a service may switch to what nobody asked for")
	}
	a, err = answer(t, "HTTP/1.1 403 Forbidden\r\nConnection: close\r\nX-Why: no\r\nContent-Length: 4\r\n\r\nnope")
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := a.Switched(ask); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	w := httptest.NewRecorder()
	if n, err := a.Decline(w); n != 4 || err != nil || w.Code != 403 || w.Body.String() != "nope" || w.Header().Get("X-Why") != "no" || w.Header().Get("Connection") != "" {
		t.Errorf("%d, %v, %d %v %q", n, err, w.Code, w.Header(), w.Body)
	}
	for name, says := range map[string]string{
		"nothing": "", "no http": "SSH-2.0\r\n", "endless header": "HTTP/1.1 101 x\r\nX: " + strings.Repeat("x", 100<<10) + "\r\n\r\n",
	} {
		if _, err := answer(t, says); err == nil {
			t.Errorf("%s was taken for an answer", name)
		}
	}
}
