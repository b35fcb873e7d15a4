package tunnel_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// httpPair stands up two gateways on loopback whose far end serves h.
func httpPair(t testing.TB, c tunneltest.Config, h http.HandlerFunc) *tunneltest.Gateway {
	t.Helper()
	_, a, _ := pair(t, c, tunneltest.Echo(), tunneltest.Handler{HTTP: h})
	return a
}

func request(t testing.TB, method, target string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// failure is the error of a request that must not have a response.
func failure(t testing.TB, a *tunneltest.Gateway, h *wire.Header, req *http.Request) error {
	t.Helper()
	resp, err := a.RoundTrip("west", h, req)
	if resp != nil {
		t.Error("a response")
		_ = resp.Body.Close()
	}
	return err
}

func TestRequestArrivesAsItIs(t *testing.T) { eachLane(t, testRequestArrivesAsItIs) }

func testRequestArrivesAsItIs(t *testing.T, c tunneltest.Config) {
	a := httpPair(t, c, func(w http.ResponseWriter, r *http.Request) {
		remote, ok := tunnel.RemoteFrom(r.Context())
		if !ok || remote.Cluster != "east" || remote.Gateway != "gw1" {
			t.Errorf("remote %+v", remote)
		}
		if h, ok := tunnel.HeaderFrom(r.Context()); !ok || *h != *echoHeader() {
			t.Errorf("header %+v", h)
		}
		if r.Host != "echo.default.mesh:8080" || r.URL.RequestURI() != "/a%20b?q=1" || r.Method != http.MethodPut {
			t.Errorf("%s %s %s", r.Method, r.Host, r.URL.RequestURI())
		}
		want := http.Header{"X-One": {"1", "2"}, "User-Agent": {"curl"}, "Content-Length": {"4"}}
		if fmt.Sprint(r.Header) != fmt.Sprint(want) {
			t.Errorf("header fields %v, want %v", r.Header, want)
		}
		w.Header().Add("X-Two", "3")
		w.Header().Set("Isthmus-Status", "unreachable") // an endpoint must not make us replay
		w.Header().Set("Isthmus-Other", "x")
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.Copy(w, r.Body)
	})
	req := request(t, http.MethodPut, "http://echo.default.mesh:8080/a%20b?q=1", strings.NewReader("body"))
	req.Header["X-One"] = []string{"1", "2"}
	req.Header.Set("User-Agent", "curl")
	req.Header.Set("Isthmus-Caller", "spiffe://mesh.test/forged")
	req.Header.Set("isthmus_service", "forged")
	before := req.Header.Clone()
	resp, err := a.RoundTrip("west", echoHeader(), req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != "body" || resp.StatusCode != http.StatusTeapot || resp.Header.Get("X-Two") != "3" {
		t.Errorf("%d %v %q, %v", resp.StatusCode, resp.Header, body, err)
	}
	for name := range resp.Header {
		if strings.HasPrefix(name, "Isthmus") {
			t.Errorf("%s came through", name)
		}
	}
	if fmt.Sprint(req.Header) != fmt.Sprint(before) || req.URL.Scheme != "http" || resp.Request != req {
		t.Errorf("the request was changed: %v", req)
	}
}

// A peer that dials us first can be sent streams at once. Requests wait for the
// connections that carry them, and do not fail for want of a link.
func TestRequestsWaitForTheFirstHTTPConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, b := pair(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}}, tunneltest.Echo(), tunneltest.Echo())
		defer m.Close()
		b.Kill()
		time.Sleep(time.Minute)
		b.Start()
		if err := b.SetPeers([]tunnel.Peer{m.PeerOf("east")}); err != nil {
			t.Fatal(err)
		}
		a.Wait("a link that the peer dialed", func() bool {
			return slices.ContainsFunc(a.Links(), func(l tunnel.LinkInfo) bool { return !l.Dialed && l.State == tunnel.StateUp })
		})
		ctx, cancel := contextWithTimeout(t, delay/2)
		defer cancel()
		if err := failure(t, a, echoHeader(), request(t, http.MethodGet, "http://x/", nil).WithContext(ctx)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a request of little patience: %v", err)
		}
		start := time.Now()
		resp, err := a.RoundTrip("west", echoHeader(), request(t, http.MethodGet, "http://x/", nil))
		if err != nil {
			t.Fatalf("after %v: %v", time.Since(start), err)
		}
		_ = resp.Body.Close()
		t.Logf("answered after %v", time.Since(start))
		if d := time.Since(start); d > 1500*time.Millisecond {
			t.Errorf("answered after %v", d)
		}
		b.Kill()
		a.Wait("no link", func() bool {
			return !slices.ContainsFunc(a.Links(), func(l tunnel.LinkInfo) bool { return l.State == tunnel.StateUp })
		})
		start = time.Now()
		if err := failure(t, a, echoHeader(), request(t, http.MethodGet, "http://x/", nil)); err == nil || time.Since(start) != 0 {
			t.Errorf("without a link to wait for: %v after %v", err, time.Since(start))
		}
	})
}

func TestRequestWithoutUserAgentGetsNone(t *testing.T) {
	eachLane(t, testRequestWithoutUserAgentGetsNone)
}

func testRequestWithoutUserAgentGetsNone(t *testing.T, c tunneltest.Config) {
	a := httpPair(t, c, func(w http.ResponseWriter, r *http.Request) {
		if len(r.Header) != 0 {
			t.Errorf("header fields %v", r.Header)
		}
		w.WriteHeader(http.StatusNoContent)
	})
	resp, err := a.RoundTrip("west", echoHeader(), request(t, http.MethodGet, "http://x/", nil))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
}

func TestTrailersBothWays(t *testing.T) { eachLane(t, testTrailersBothWays) }

func testTrailersBothWays(t *testing.T, c tunneltest.Config) {
	a := httpPair(t, c, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Grpc-Status")
		body, _ := io.ReadAll(r.Body)
		if string(body) != "request" || r.Trailer.Get("X-Sum") != "42" {
			t.Errorf("body %q, trailers %v", body, r.Trailer)
		}
		_, _ = w.Write([]byte("answer"))
		w.Header().Set("Grpc-Status", "0")
		w.Header().Set(http.TrailerPrefix+"Grpc-Message", "fine")
	})
	req := request(t, http.MethodPost, "http://x/", io.NopCloser(strings.NewReader("request")))
	req.Trailer = http.Header{"X-Sum": {"42"}}
	resp, err := a.RoundTrip("west", echoHeader(), req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != "answer" || resp.Trailer.Get("Grpc-Status") != "0" || resp.Trailer.Get("Grpc-Message") != "fine" {
		t.Errorf("%q, %v, trailers %v", body, err, resp.Trailer)
	}
}

// What gRPC's bidirectional streams do: the answer runs while the request does.
func TestFullDuplex(t *testing.T) { eachLane(t, testFullDuplex) }

func testFullDuplex(t *testing.T, c tunneltest.Config) {
	a := httpPair(t, c, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		buf := make([]byte, 16)
		for {
			n, err := r.Body.Read(buf)
			if n > 0 {
				_, _ = w.Write(bytes.ToUpper(buf[:n]))
				w.(http.Flusher).Flush()
			}
			if err != nil {
				return
			}
		}
	})
	pr, pw := io.Pipe()
	resp, err := a.RoundTrip("west", echoHeader(), request(t, http.MethodPost, "http://x/", pr))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for _, word := range []string{"one", "two", "three"} {
		_, _ = pw.Write([]byte(word))
		got := make([]byte, len(word))
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != strings.ToUpper(word) {
			t.Fatalf("%q came back as %q, %v", word, got, err)
		}
	}
	_ = pw.Close()
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) != 0 {
		t.Errorf("after the end: %q, %v", rest, err)
	}
}

func TestInformationalResponses(t *testing.T) { eachLane(t, testInformationalResponses) }

func testInformationalResponses(t *testing.T, c tunneltest.Config) {
	a := httpPair(t, c, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a.css>")
		w.Header().Set("Isthmus-Status", "denied")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusOK)
	})
	hints := 0
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			if code == http.StatusEarlyHints && h.Get("Link") != "" && h.Get("Isthmus-Status") == "" {
				hints++
			}
			return nil
		},
	})
	resp, err := a.RoundTrip("west", echoHeader(), request(t, http.MethodGet, "http://x/", nil).WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if hints != 1 || resp.StatusCode != http.StatusOK {
		t.Errorf("%d hints, status %d", hints, resp.StatusCode)
	}
}

func TestRefusedRequest(t *testing.T) { eachLane(t, testRefusedRequest) }

func testRefusedRequest(t *testing.T, c tunneltest.Config) {
	a := httpPair(t, c, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Leak", "internal")
		tunnel.Refuse(&wrapper{w}, wire.Reply{Status: wire.NoEndpoint, Message: "none ready", RetryAfter: time.Second})
		if _, err := w.Write([]byte("body")); err == nil {
			t.Error("a body was written after the refusal")
		}
	})
	err := failure(t, a, echoHeader(), request(t, http.MethodPost, "http://x/", strings.NewReader("x")))
	e, ok := errors.AsType[*tunnel.RefusedError](err)
	if !ok || *e != (tunnel.RefusedError{Cluster: "west", Gateway: "gw1", Status: wire.NoEndpoint, Message: "none ready", RetryAfter: time.Second}) {
		t.Errorf("err %+v", err)
	}
}

// wrapper is what a middleware of the far gateway puts around the writer.
type wrapper struct{ http.ResponseWriter }

func (w *wrapper) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func TestCancelledRequestReachesTheFarEnd(t *testing.T) {
	eachLane(t, testCancelledRequestReachesTheFarEnd)
}

func testCancelledRequestReachesTheFarEnd(t *testing.T, c tunneltest.Config) {
	began, ended := make(chan struct{}), make(chan struct{})
	a := httpPair(t, c, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		close(began)
		<-r.Context().Done()
		close(ended)
	})
	ctx, cancel := context.WithCancel(t.Context())
	resp, err := a.RoundTrip("west", echoHeader(), request(t, http.MethodGet, "http://x/", nil).WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	<-began
	cancel()
	<-ended
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, context.Canceled) {
		t.Errorf("body: %v", err)
	}
	_ = resp.Body.Close()
}

func TestAbortedResponseIsNotWhole(t *testing.T) { eachLane(t, testAbortedResponseIsNotWhole) }

func testAbortedResponseIsNotWhole(t *testing.T, c tunneltest.Config) {
	for name, stop := range map[string]func(){
		"abort": func() { panic(http.ErrAbortHandler) },
		"bug":   func() { panic("bug") },
	} {
		a := httpPair(t, c, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(make([]byte, 10<<10))
			stop()
		})
		resp, err := a.RoundTrip("west", echoHeader(), request(t, http.MethodGet, "http://x/", nil))
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
		}
		if e, ok := errors.AsType[*tunnel.ResetError](err); !ok || !e.Remote {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRequestWithoutFactsIsRefused(t *testing.T) { eachLane(t, testRequestWithoutFactsIsRefused) }

func testRequestWithoutFactsIsRefused(t *testing.T, c tunneltest.Config) {
	a := httpPair(t, c, func(http.ResponseWriter, *http.Request) { t.Error("served") })
	err := failure(t, a, &wire.Header{}, request(t, http.MethodGet, "http://x/", nil))
	if _, ok := errors.AsType[*wire.FieldError](err); !ok {
		t.Errorf("err %v", err)
	}
}

func TestLargeBodiesBothWays(t *testing.T) { eachLane(t, testLargeBodiesBothWays) }

func testLargeBodiesBothWays(t *testing.T, c tunneltest.Config) {
	a := httpPair(t, c, tunneltest.Echo().HTTP)
	const size = 32 << 20
	body := io.LimitReader(zeros{}, size)
	resp, err := a.RoundTrip("west", echoHeader(), request(t, http.MethodPost, "http://x/", body))
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil || n != size {
		t.Errorf("%d of %d bytes, %v", n, size, err)
	}
	_ = resp.Body.Close()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// A dead link says whether the request may have been seen, before and inside the
// body; and nothing hangs.
func TestRequestsOnADeadLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far := tunneltest.Handler{HTTP: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/body" {
				w.(http.Flusher).Flush()
			}
			<-r.Context().Done()
		}}
		m, a, b := pair(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}}, tunneltest.Echo(), far)
		defer m.Close()
		time.Sleep(time.Second)
		body, err := a.RoundTrip("west", echoHeader(), request(t, http.MethodGet, "http://x/body", nil))
		if err != nil {
			t.Fatal(err)
		}
		cut := tunneltest.Path{Cut: true}
		m.Network.SetPath(a.Addr.Addr(), b.Addr.Addr(), cut)
		m.Network.SetPath(b.Addr.Addr(), a.Addr.Addr(), cut)
		start := time.Now()
		err = failure(t, a, echoHeader(), request(t, http.MethodGet, "http://x/", nil))
		if e, ok := errors.AsType[*tunnel.LinkError](err); !ok || e.Status != wire.LinkDead || !e.Delivered || e.Gateway != "gw1" {
			t.Errorf("request: %v", err)
		}
		if d := time.Since(start); d > deadline {
			t.Errorf("it hung for %v", d)
		}
		_, err = body.Body.Read(make([]byte, 1))
		if e, ok := errors.AsType[*tunnel.LinkError](err); !ok || e.Status != wire.LinkDead || !e.Delivered {
			t.Errorf("body: %v", err)
		}
		_ = body.Body.Close()
		waitDown(a)
		err = failure(t, a, echoHeader(), request(t, http.MethodGet, "http://x/", strings.NewReader("x")))
		if e, ok := errors.AsType[*tunnel.LinkError](err); !ok || e.Delivered || e.Status != wire.Unreachable {
			t.Errorf("without a link: %v", err)
		}
	})
}

// Requests in progress are counted until their body ends.
func TestRequestsInProgressAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		far := tunneltest.Handler{HTTP: func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			<-release
		}}
		m, a, b := pair(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}}, tunneltest.Echo(), far)
		defer m.Close()
		var bodies []io.ReadCloser
		for range 10 {
			resp, err := a.RoundTrip("west", echoHeader(), request(t, http.MethodGet, "http://x/", nil)) //nolint:bodyclose // closed below
			if err != nil {
				t.Fatal(err)
			}
			bodies = append(bodies, resp.Body)
		}
		if l := a.WaitLink(b, tunnel.StateUp); l.Streams != 10 {
			t.Errorf("%d streams", l.Streams)
		}
		close(release)
		for i, body := range bodies {
			if i%2 == 0 { // half are read to the end, half are only closed
				_, _ = io.Copy(io.Discard, body)
			}
			_ = body.Close()
		}
		time.Sleep(time.Second)
		for _, g := range []*tunneltest.Gateway{a, b} {
			for _, l := range g.Links() {
				if l.Streams != 0 {
					t.Errorf("%d streams after the end", l.Streams)
				}
			}
		}
	})
}
