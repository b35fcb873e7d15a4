package tunnel_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

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
