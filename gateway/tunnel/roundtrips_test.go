package tunnel_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

const delay = 20 * time.Millisecond // one way; a round trip is 40 ms

// pair stands up one gateway in each of two clusters and links them both ways.
func pair(t testing.TB, c tunneltest.Config, near, far tunnel.Handler) (m *tunneltest.Mesh, a, b *tunneltest.Gateway) {
	t.Helper()
	m = tunneltest.New(t, c)
	a = m.Add(tunneltest.Spec{Cluster: "east", Gateway: "gw1", Handler: near})
	b = m.Add(tunneltest.Spec{Cluster: "west", Gateway: "gw1", Handler: far})
	m.Connect()
	return m, a, b
}

func echoHeader() *wire.Header {
	return &wire.Header{Service: "echo.default", Caller: "spiffe://mesh.test/client", Assurance: wire.AssuranceMTLS}
}

func TestNewStreamThroughWarmLinkCostsOneRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, _ := pair(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}}, tunneltest.Echo(), tunneltest.Echo())
		defer m.Close()
		for range 3 { // the first is as cheap as the others
			start := time.Now()
			s, err := a.OpenStream(t.Context(), "west", echoHeader(), []byte("hello"))
			if err != nil {
				t.Fatal(err)
			}
			if d := time.Since(start); d != 0 {
				t.Errorf("OpenStream waited %v", d)
			}
			got := make([]byte, 5)
			if _, err := io.ReadFull(s, got); err != nil || string(got) != "hello" {
				t.Fatalf("read %q, %v", got, err)
			}
			if d := time.Since(start); d != 2*delay {
				t.Errorf("request and answer took %v, want one round trip of %v", d, 2*delay)
			}
			_ = s.Close()
		}
	})
}

func TestRequestThroughWarmLinkCostsOneRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, _ := pair(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}}, tunneltest.Echo(), tunneltest.Echo())
		defer m.Close()
		for range 3 {
			start := time.Now()
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://echo.default.mesh/", strings.NewReader("hello"))
			resp, err := a.RoundTrip("west", echoHeader(), req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || string(body) != "hello" {
				t.Fatalf("body %q, %v", body, err)
			}
			if d := time.Since(start); d != 2*delay {
				t.Errorf("request and answer took %v, want one round trip of %v", d, 2*delay)
			}
			_ = resp.Body.Close()
		}
	})
}

func TestLinkComesUpInFourRoundTrips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := tunneltest.New(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}})
		defer m.Close()
		a := m.Add(tunneltest.Spec{Cluster: "east", Gateway: "gw1", Handler: tunneltest.Echo()})
		b := m.Add(tunneltest.Spec{Cluster: "west", Gateway: "gw1", Handler: tunneltest.Echo()})
		if err := b.SetPeers([]tunnel.Peer{m.PeerOf("east")}); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := a.SetPeers([]tunnel.Peer{m.PeerOf("west")}); err != nil {
			t.Fatal(err)
		}
		for up := false; !up; {
			<-a.Changes()
			for _, l := range a.Links() {
				up = up || l.Dialed && l.State == tunnel.StateUp
			}
		}
		// Handshake and hello of the control connection, then of the others.
		if d := time.Since(start); d > 4*2*delay {
			t.Errorf("link took %v, want at most %v", d, 4*2*delay)
		}
	})
}

func TestFirstBytesOfAServerThatSpeaksFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far := tunneltest.Handler{Stream: func(_ context.Context, in *tunnel.Inbound) {
			_, _ = in.Write([]byte("220 ready\r\n"))
			_ = in.CloseWrite()
		}}
		m, a, _ := pair(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}}, tunneltest.Echo(), far)
		defer m.Close()
		start := time.Now()
		s, err := a.OpenStream(t.Context(), "west", echoHeader(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		got, err := io.ReadAll(s)
		if err != nil || string(got) != "220 ready\r\n" {
			t.Fatalf("read %q, %v", got, err)
		}
		if d := time.Since(start); d != 2*delay {
			t.Errorf("took %v, want %v", d, 2*delay)
		}
	})
}
