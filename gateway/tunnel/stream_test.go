package tunnel_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// These run on real UDP sockets: the simulated network would prove nothing more
// about what a stream does.

// withStream opens a stream to a far end that runs serve, and runs near on it. It
// waits for both.
func withStream(t *testing.T, first []byte, serve func(t *testing.T, in *tunnel.Inbound), near func(t *testing.T, s *tunnel.Stream)) {
	t.Helper()
	eachLane(t, func(t *testing.T, c tunneltest.Config) {
		t.Helper()
		withStreamOn(t, c, first, serve, near)
	})
}

func withStreamOn(t *testing.T, c tunneltest.Config, first []byte, serve func(t *testing.T, in *tunnel.Inbound), near func(t *testing.T, s *tunnel.Stream)) {
	t.Helper()
	var served sync.WaitGroup
	served.Add(1)
	far := tunneltest.Handler{Stream: func(_ context.Context, in *tunnel.Inbound) {
		defer served.Done()
		serve(t, in)
	}}
	m, a, b := pair(t, c, tunneltest.Echo(), far)
	defer m.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s, err := a.OpenStream(ctx, "west", echoHeader(), first)
	if err != nil {
		t.Fatal(err)
	}
	near(t, s)
	_ = s.Close()
	_ = s.Close() // twice is safe
	served.Wait()
	for _, g := range []*tunneltest.Gateway{a, b} {
		g.Wait("streams to be given back", func() bool {
			for _, l := range g.Links() {
				if l.Streams != 0 {
					return false
				}
			}
			return true
		})
	}
}

func expectReset(t *testing.T, what string, err error, want wire.Status) {
	t.Helper()
	e, ok := errors.AsType[*tunnel.ResetError](err)
	if !ok || e.Status != want || !e.Remote {
		t.Errorf("%s: %v, want a reset by the peer with %s", what, err, want)
	}
}

func TestHeaderAndRemoteArriveAsTheyAre(t *testing.T) {
	withStream(t, []byte("first"), func(t *testing.T, in *tunnel.Inbound) {
		if in.Header != *echoHeader() {
			t.Errorf("header %+v", in.Header)
		}
		if in.Remote.Cluster != "east" || in.Remote.Gateway != "gw1" || in.Remote.ID.String() != "spiffe://mesh.test/isthmus/cluster/east/gateway/gw1" {
			t.Errorf("remote %+v", in.Remote)
		}
		b := make([]byte, 5)
		if _, err := io.ReadFull(in, b); err != nil || string(b) != "first" { // before Accept
			t.Errorf("read %q, %v", b, err)
		}
		if err := in.Accept(); err != nil {
			t.Error(err)
		}
		if err := in.Accept(); err == nil {
			t.Error("accepted twice")
		}
		if err := in.Refuse(wire.Denied, ""); err == nil {
			t.Error("refused after it was accepted")
		}
	}, func(t *testing.T, s *tunnel.Stream) {
		r, err := s.Status(t.Context())
		if err != nil || r.Status != wire.OK {
			t.Errorf("status %+v, %v", r, err)
		}
		if s.Remote().Cluster != "west" {
			t.Errorf("remote %+v", s.Remote())
		}
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("after the far end returned: %v", err)
		}
	})
}

func TestHalfCloseBothWays(t *testing.T) {
	withStream(t, nil, func(t *testing.T, in *tunnel.Inbound) {
		_ = in.Accept()
		got, err := io.ReadAll(in) // EOF arrives while the other direction is open
		if err != nil || string(got) != "question" {
			t.Errorf("read %q, %v", got, err)
		}
		_, _ = in.Write([]byte("answer"))
		_ = in.CloseWrite()
	}, func(t *testing.T, s *tunnel.Stream) {
		_, _ = s.Write([]byte("question"))
		if err := s.CloseWrite(); err != nil {
			t.Error(err)
		}
		if err := s.CloseWrite(); err != nil {
			t.Errorf("second half-close: %v", err)
		}
		got, err := io.ReadAll(s)
		if err != nil || string(got) != "answer" {
			t.Errorf("read %q, %v", got, err)
		}
	})
	withStream(t, nil, func(t *testing.T, in *tunnel.Inbound) {
		_ = in.CloseWrite() // accepts, and the far end closes first
		if got, err := io.ReadAll(in); err != nil || string(got) != "still open" {
			t.Errorf("read %q, %v", got, err)
		}
	}, func(t *testing.T, s *tunnel.Stream) {
		if got, err := io.ReadAll(s); err != nil || len(got) != 0 {
			t.Errorf("read %q, %v", got, err)
		}
		_, _ = s.Write([]byte("still open"))
		_ = s.CloseWrite()
	})
}

// A TCP connection delivers what was sent before its RST.
func TestResetDeliversWhatWasWrittenBefore(t *testing.T) {
	payload := bytes.Repeat([]byte("0123456789abcdef"), 4096) // 64 KiB
	withStream(t, nil, func(t *testing.T, in *tunnel.Inbound) {
		_ = in.Accept()
		if _, err := in.Write(payload); err != nil {
			t.Error(err)
		}
		in.Reset(wire.Reset)
	}, func(t *testing.T, s *tunnel.Stream) {
		got, err := io.ReadAll(s)
		if !bytes.Equal(got, payload) {
			t.Errorf("%d of %d bytes arrived", len(got), len(payload))
		}
		expectReset(t, "read", err, wire.Reset)
		for { // the other direction is reset as well
			if _, err := s.Write([]byte("x")); err != nil {
				expectReset(t, "write", err, wire.Reset)
				break
			}
			time.Sleep(time.Millisecond)
		}
	})
}

// A reset of one direction does not take back the end of the other.
func TestResetAfterHalfCloseKeepsTheHalfClose(t *testing.T) {
	withStream(t, nil, func(t *testing.T, in *tunnel.Inbound) {
		_, _ = in.Write([]byte("all of it"))
		_ = in.CloseWrite()
		in.Reset(wire.Idle)
	}, func(t *testing.T, s *tunnel.Stream) {
		if got, err := io.ReadAll(s); err != nil || string(got) != "all of it" {
			t.Errorf("read %q, %v", got, err)
		}
	})
}

func TestStopSending(t *testing.T) {
	withStream(t, nil, func(t *testing.T, in *tunnel.Inbound) {
		_ = in.Accept()
		in.CloseRead(wire.Reset) // the endpoint no longer reads: EPIPE
		_, _ = in.Write([]byte("but it still writes"))
		_ = in.CloseWrite()
	}, func(t *testing.T, s *tunnel.Stream) {
		var err error
		for err == nil {
			_, err = s.Write(make([]byte, 1024))
		}
		expectReset(t, "write", err, wire.Reset)
		if got, err := io.ReadAll(s); err != nil || string(got) != "but it still writes" {
			t.Errorf("read %q, %v", got, err)
		}
	})
}

func TestRefusal(t *testing.T) {
	for _, status := range wire.Statuses() {
		if status == wire.OK {
			continue
		}
		withStream(t, []byte("x"), func(t *testing.T, in *tunnel.Inbound) {
			_ = in.RefuseWith(wire.Reply{Status: status, Message: "because", RetryAfter: time.Second})
			if _, err := in.Write([]byte("x")); err == nil {
				t.Error("wrote after the refusal")
			}
		}, func(t *testing.T, s *tunnel.Stream) {
			r, err := s.Status(t.Context())
			if err != nil || r != (wire.Reply{Status: status, Message: "because", RetryAfter: time.Second}) {
				t.Errorf("status %+v, %v", r, err)
			}
			_, err = s.Read(make([]byte, 1))
			e, ok := errors.AsType[*tunnel.RefusedError](err)
			if !ok || e.Status != status || e.Message != "because" || e.Cluster != "west" || e.Gateway != "gw1" {
				t.Errorf("read: %v", err)
			}
		})
	}
}

// A handler that forgets to answer must not look like an endpoint that accepted.
func TestUnansweredStreamIsRefused(t *testing.T) {
	withStream(t, nil, func(*testing.T, *tunnel.Inbound) {}, func(t *testing.T, s *tunnel.Stream) {
		_, err := s.Read(make([]byte, 1))
		if e, ok := errors.AsType[*tunnel.RefusedError](err); !ok || e.Status != wire.Internal {
			t.Errorf("read: %v", err)
		}
	})
	withStream(t, nil, func(*testing.T, *tunnel.Inbound) { panic("bug") }, func(t *testing.T, s *tunnel.Stream) {
		_, err := s.Read(make([]byte, 1))
		expectReset(t, "read of a stream whose handler panicked", err, wire.Internal)
	})
}

func TestDeadlines(t *testing.T) { eachLane(t, testDeadlines) }

func testDeadlines(t *testing.T, c tunneltest.Config) {
	release, done := make(chan struct{}), make(chan struct{})
	withStreamOn(t, c, nil, func(t *testing.T, in *tunnel.Inbound) {
		defer close(done)
		_ = in.SetReadDeadline(time.Now().Add(-time.Second))
		if _, err := in.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("far read: %v", err)
		}
		<-release
		_, _ = in.Write([]byte("ok"))
		_ = in.SetWriteDeadline(time.Now().Add(-time.Second))
		if _, err := in.Write(make([]byte, 1<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("far write: %v", err)
		}
		in.Reset(wire.Idle)
	}, func(t *testing.T, s *tunnel.Stream) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := s.Status(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("status: %v", err)
		}
		_ = s.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: %v", err)
		}
		_ = s.SetReadDeadline(time.Time{})
		close(release)
		// Neither has spoilt the answer.
		if r, err := s.Status(t.Context()); err != nil || r.Status != wire.OK {
			t.Errorf("status %+v, %v", r, err)
		}
		b := make([]byte, 2)
		if _, err := io.ReadFull(s, b); err != nil || string(b) != "ok" {
			t.Errorf("read %q, %v", b, err)
		}
		<-done
	})
}

func TestCloseUnblocksRead(t *testing.T) {
	withStream(t, nil, func(_ *testing.T, in *tunnel.Inbound) {
		_ = in.Accept()
		_, _ = io.Copy(io.Discard, in)
	}, func(t *testing.T, s *tunnel.Stream) {
		read := make(chan error, 1)
		go func() {
			_, err := s.Read(make([]byte, 1))
			read <- err
		}()
		if _, err := s.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Millisecond)
		_ = s.Close()
		if err := <-read; err == nil {
			t.Error("read returned without error")
		}
	})
}

// What a blocked Write holds cannot be delivered after Close; the far end must
// not take the part that got through for the whole.
func TestCloseDoesNotPassAPartForTheWhole(t *testing.T) {
	eachLane(t, testCloseDoesNotPassAPartForTheWhole)
}

func testCloseDoesNotPassAPartForTheWhole(t *testing.T, c tunneltest.Config) {
	began, closed := make(chan struct{}), make(chan struct{})
	withStreamOn(t, c, nil, func(t *testing.T, in *tunnel.Inbound) {
		_ = in.Accept()
		_, _ = io.ReadFull(in, make([]byte, 1))
		close(began)
		<-closed
		_, err := io.Copy(io.Discard, in)
		if e, ok := errors.AsType[*tunnel.ResetError](err); c.TLS && ok && e.Status == wire.Reset {
			err = &tunnel.ResetError{Status: wire.Canceled, Remote: e.Remote} // the connection was cut off
		}
		expectReset(t, "read", err, wire.Canceled)
	}, func(t *testing.T, s *tunnel.Stream) {
		wrote := make(chan error, 1)
		go func() {
			_, err := s.Write(make([]byte, 256<<20)) // more than any window
			wrote <- err
		}()
		<-began
		_ = s.Close()
		close(closed)
		if err := <-wrote; err == nil {
			t.Error("write returned without error")
		}
	})
}

func TestContextEndsWithTheLink(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	far := tunneltest.Handler{Stream: func(ctx context.Context, in *tunnel.Inbound) {
		_ = in.Accept()
		_ = in.CloseWrite() // must not end the context
		select {
		case <-ctx.Done():
			t.Error("the context ended with a direction")
		case <-time.After(20 * time.Millisecond):
		}
		close(began)
		<-ctx.Done()
		close(ended)
	}}
	m, a, b := pair(t, tunneltest.Config{Loopback: true}, tunneltest.Echo(), far)
	defer m.Close()
	s, err := a.OpenStream(t.Context(), "west", echoHeader(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	<-began
	if err := b.SetPeers(nil); err != nil {
		t.Fatal(err)
	}
	<-ended
}

func TestOpenStreamErrors(t *testing.T) {
	m, a, _ := pair(t, tunneltest.Config{Loopback: true}, tunneltest.Echo(), tunneltest.Echo())
	defer m.Close()
	if _, err := a.OpenStream(t.Context(), "nowhere", echoHeader(), nil); err == nil {
		t.Error("opened to a cluster that is no peer")
	} else if e, ok := errors.AsType[*tunnel.LinkError](err); !ok || e.Delivered || e.Status != wire.Unreachable || e.Cluster != "nowhere" {
		t.Errorf("no peer: %v", err)
	}
	if _, err := a.OpenStream(t.Context(), "west", &wire.Header{}, nil); err == nil {
		t.Error("opened without a service")
	} else if _, ok := errors.AsType[*wire.FieldError](err); !ok {
		t.Errorf("no service: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("caller went away")
	cancel(gone)
	if _, err := a.OpenStream(ctx, "west", echoHeader(), nil); !errors.Is(err, gone) {
		t.Errorf("ended context: %v", err)
	}
}
