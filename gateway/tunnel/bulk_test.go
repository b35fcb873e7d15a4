package tunnel_test

import (
	"bytes"
	"context"
	"io"
	"math"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
)

// sink takes all that is sent, and answers a request with as many bytes as it had.
func sink() tunneltest.Handler {
	return tunneltest.Handler{
		Stream: func(_ context.Context, in *tunnel.Inbound) {
			_ = in.Accept()
			_, _ = io.Copy(io.Discard, in)
		},
		HTTP: func(w http.ResponseWriter, r *http.Request) {
			n, _ := io.Copy(io.Discard, r.Body)
			_, _ = w.Write(make([]byte, n))
		},
	}
}

// carry writes n bytes in pieces, as a splice does.
func carry(t *testing.T, g *tunneltest.Gateway, n, piece int, pause time.Duration) {
	t.Helper()
	s, err := g.OpenStream(t.Context(), "west", echoHeader(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, piece); n > 0; n -= piece {
		if _, err := s.Write(b); err != nil {
			t.Fatal(err)
		}
		time.Sleep(pause)
	}
	_ = s.CloseWrite()
	_, _ = io.ReadAll(s)
	_ = s.Close()
}

// bandwidth is what the link of g says.
func bandwidth(g *tunneltest.Gateway) (out, in float64) {
	for _, l := range g.Links() {
		if l.State == tunnel.StateUp {
			out, in = max(out, float64(l.BandwidthOut)), max(in, float64(l.BandwidthIn))
		}
	}
	return out, in
}

func wantRate(t *testing.T, what string, got, want float64) {
	t.Helper()
	t.Logf("figure: %s: %.2f MB/s measured of %.2f", what, got/1e6, want/1e6)
	if math.Abs(got-want) > 0.15*want {
		t.Errorf("%s: %.0f bytes/s, want %.0f +- 15 %%", what, got, want)
	}
}

func TestBandwidthIsWhatBulkReaches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 2e6
		path := tunneltest.Path{Delay: 10 * time.Millisecond, Rate: rate}
		m, a, b := pair(t, tunneltest.Config{Path: path}, sink(), sink())
		defer m.Close()
		carry(t, a, 400<<10, 4<<10, 20*time.Millisecond) // 200 kB/s, and never waits
		if out, in := bandwidth(a); out != 0 || in != 0 {
			t.Fatalf("%.0f and %.0f bytes/s after what did not fill the link, want unknown", out, in)
		}
		carry(t, a, 6<<20, 64<<10, 0)
		time.Sleep(2 * time.Second)
		out, in := bandwidth(a)
		wantRate(t, "a stream out", out, rate)
		if in != 0 {
			t.Errorf("the other direction is known as %.0f, and nothing was sent in it", in)
		}
		_, told := bandwidth(b)
		wantRate(t, "as the peer is told", told, rate)

		path.Rate = rate / 4
		m.Network.SetPath(a.Addr.Addr(), b.Addr.Addr(), path)
		for range 6 {
			carry(t, a, 2<<20, 64<<10, 0)
		}
		out, _ = bandwidth(a)
		wantRate(t, "after the link became thin", out, rate/4)
		time.Sleep(9 * time.Minute)
		out, _ = bandwidth(a)
		wantRate(t, "idle for nine minutes", out, rate/4)
		time.Sleep(2 * time.Minute)
		if out, _ = bandwidth(a); out != 0 {
			t.Errorf("%.0f bytes/s is still believed after eleven idle minutes", out)
		}
	})
}

// A reader that is slow keeps the writer waiting, and says nothing of the link.
func TestASlowReaderIsNoThinLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := sink()
		slow.Stream = func(_ context.Context, in *tunnel.Inbound) {
			_ = in.Accept()
			for b := make([]byte, 16<<10); ; time.Sleep(100 * time.Millisecond) { // 160 kB/s
				if _, err := io.ReadFull(in, b); err != nil {
					return
				}
			}
		}
		m, a, _ := pair(t, tunneltest.Config{Path: tunneltest.Path{Delay: 10 * time.Millisecond, Rate: 4e6}}, sink(), slow)
		defer m.Close()
		carry(t, a, 5<<20, 64<<10, 0)
		out, _ := bandwidth(a)
		t.Logf("figure: a reader of 0.16 MB/s on a link of 4 MB/s: %.2f MB/s measured", out/1e6)
		if out > 0 && out < 2e6 {
			t.Errorf("%.0f bytes/s is taken for the link's", out)
		}
	})
}

func TestRequestsMeasureBothDirections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, b := pair(t, tunneltest.Config{Path: tunneltest.Path{Delay: 5 * time.Millisecond, Rate: 4e6}}, sink(), sink())
		defer m.Close()
		m.Network.SetPath(b.Addr.Addr(), a.Addr.Addr(), tunneltest.Path{Delay: 5 * time.Millisecond, Rate: 1e6})
		for range 2 {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://echo.default/", bytes.NewReader(make([]byte, 4<<20)))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := a.RoundTrip("west", echoHeader(), req)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != 4<<20 {
				t.Fatal(n, err)
			}
			_ = resp.Body.Close()
		}
		time.Sleep(2 * time.Second)
		out, in := bandwidth(a)
		wantRate(t, "requests out", out, 4e6)
		wantRate(t, "answers in", in, 1e6)
	})
}
