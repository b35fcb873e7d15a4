package tunnel_test

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
)

// Both ends run in this process: figures are of the two together.

// answering reads eight bytes, gives them back and ends: what a handler must do
// at least.
var answering = tunneltest.Handler{
	Stream: func(_ context.Context, in *tunnel.Inbound) {
		var b [8]byte
		if _, err := io.ReadFull(in, b[:]); err == nil {
			_, _ = in.Write(b[:])
			_ = in.CloseWrite()
		}
	},
	HTTP: func(w http.ResponseWriter, r *http.Request) {
		var b [8]byte
		if _, err := io.ReadFull(r.Body, b[:]); err == nil {
			_, _ = w.Write(b[:])
		}
	},
}

func benchPair(b *testing.B, far tunnel.Handler) *tunneltest.Gateway {
	b.Helper()
	_, a, _ := pair(b, tunneltest.Config{Loopback: true}, tunneltest.Echo(), far)
	return a
}

// BenchmarkOpenStream is a whole small exchange: header and question there,
// answer back, both directions ended.
func BenchmarkOpenStream(b *testing.B) {
	a := benchPair(b, answering)
	h, question, answer := echoHeader(), []byte("question"), make([]byte, 8)
	b.ReportAllocs()
	for b.Loop() {
		s, err := a.OpenStream(b.Context(), "west", h, question)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(s, answer); err != nil {
			b.Fatal(err)
		}
		_ = s.Close()
	}
}

func BenchmarkOpenStreamParallel(b *testing.B) {
	a := benchPair(b, answering)
	h, question := echoHeader(), []byte("question")
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		answer := make([]byte, 8)
		for pb.Next() {
			s, err := a.OpenStream(b.Context(), "west", h, question)
			if err != nil {
				b.Error(err)
				return
			}
			if _, err := io.ReadFull(s, answer); err != nil {
				b.Error(err)
			}
			_ = s.Close()
		}
	})
}

// BenchmarkStreaming writes 32 KiB at a time in one direction.
func BenchmarkStreaming(b *testing.B) {
	a := benchPair(b, tunneltest.Handler{Stream: func(_ context.Context, in *tunnel.Inbound) {
		_ = in.Accept()
		buf := make([]byte, 128<<10)
		for {
			if _, err := in.Read(buf); err != nil {
				return
			}
		}
	}})
	s, err := a.OpenStream(b.Context(), "west", echoHeader(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	chunk := make([]byte, 32<<10)
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Write(chunk); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLanes moves the same bytes over each lane in turn, one stream each on links
// of their own, and reports both rates and the ratio of their medians.
func BenchmarkLanes(b *testing.B) {
	const part = 32 << 20
	sink := tunneltest.Handler{Stream: func(_ context.Context, in *tunnel.Inbound) {
		_ = in.Accept()
		_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, in, make([]byte, 128<<10))
	}}
	names := []tunnel.Lane{tunnel.LaneQUIC, tunnel.LaneTLS}
	streams := make([]*tunnel.Stream, len(names))
	for i, c := range []tunneltest.Config{{Loopback: true}, {Loopback: true, TLS: true, NoUDP: true}} {
		_, a, _ := pair(b, c, tunneltest.Echo(), sink)
		s, err := a.OpenStream(b.Context(), "west", echoHeader(), nil)
		if err != nil || s.Lane() != names[i] {
			b.Fatal(err)
		}
		defer s.Close()
		streams[i] = s
	}
	rates := make([][]float64, len(names))
	chunk := make([]byte, 64<<10)
	for b.Loop() {
		for i, s := range streams {
			start := time.Now()
			for range part / len(chunk) {
				if _, err := s.Write(chunk); err != nil {
					b.Fatal(err)
				}
			}
			rates[i] = append(rates[i], part/time.Since(start).Seconds()/1e6)
		}
	}
	median := func(of []float64) float64 {
		slices.Sort(of)
		return of[len(of)/2]
	}
	b.ReportMetric(median(rates[0]), "quic-MB/s")
	b.ReportMetric(median(rates[1]), "tls-MB/s")
	b.ReportMetric(median(rates[1])/median(rates[0]), "tls/quic")
}

func BenchmarkRoundTrip(b *testing.B) {
	a := benchPair(b, answering)
	h := echoHeader()
	b.ReportAllocs()
	for b.Loop() {
		req, _ := http.NewRequestWithContext(b.Context(), http.MethodPost, "http://echo.default.mesh/", strings.NewReader("question"))
		resp, err := a.RoundTrip("west", h, req)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
}

func BenchmarkRoundTripParallel(b *testing.B) {
	a := benchPair(b, answering)
	h := echoHeader()
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			req, _ := http.NewRequestWithContext(b.Context(), http.MethodPost, "http://echo.default.mesh/", strings.NewReader("question"))
			resp, err := a.RoundTrip("west", h, req)
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	})
}
