package tunnel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/generation"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// line is a gateway's successive processes at one port, in one process here.
type line struct {
	m       *tunneltest.Mesh
	sockets []*net.UDPConn
	live    generation.Live
	newest  *tunneltest.Gateway
	all     []*tunneltest.Gateway
}

func (l *line) start(t *testing.T, peers ...tunnel.Peer) *tunneltest.Gateway {
	t.Helper()
	slot := generation.Slot(len(l.sockets))
	var conn *net.UDPConn
	var err error
	if slot == 0 {
		conn, err = generation.First("127.0.0.1:0")
	} else {
		conn, err = generation.Successor(l.sockets[0])
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	l.sockets, l.live = append(l.sockets, conn), l.live.With(slot)
	if slot > 0 { // it dials before it is dialed
		l.steer(t, slot-1)
	}
	// A socket that closes would move another one's place: the line's are kept.
	kept, err := conn.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kept.Close() })
	g := l.m.Add(tunneltest.Spec{Cluster: "west", Gateway: "gw1", Handler: tunneltest.Echo(), Options: func(o *tunnel.Options) {
		o.PacketConn, o.Slot = conn, slot
	}})
	g.Addr = l.sockets[0].LocalAddr().(*net.UDPAddr).AddrPort()
	if err := g.SetPeers(peers); err != nil {
		t.Fatal(err)
	}
	l.newest, l.all = g, append(l.all, g)
	return g
}

func (l *line) steer(t *testing.T, newest generation.Slot) {
	t.Helper()
	if err := generation.Steer(l.sockets[0], l.live, newest); err != nil {
		t.Fatal(err)
	}
}

// TestSuccession: a gateway goes on in another process, several times and under load.
// No stream of before is cut, no stream or request is refused, and no moment is without
// a link, also where the peer cannot dial it.
func TestSuccession(t *testing.T) {
	for name, dialable := range map[string]bool{"the peer dials": true, "the peer is dialed": false} {
		t.Run(name, func(t *testing.T) { succession(t, dialable) })
	}
}

func succession(t *testing.T, dialable bool) {
	const processes, idle = 4, 8
	m := tunneltest.New(t, tunneltest.Config{Loopback: true})
	a := m.Add(tunneltest.Spec{Cluster: "east", Gateway: "gw1", Handler: tunneltest.Echo()})
	l := &line{m: m}
	first := l.start(t, m.PeerOf("east"))
	west := m.PeerOf("west")
	if !dialable {
		west.Gateways[0].Addresses = nil
	}
	if err := a.SetPeers([]tunnel.Peer{west}); err != nil {
		t.Fatal(err)
	}
	first.WaitLink(a, tunnel.StateUp)
	takes := func() error { // both kinds
		s, err := a.OpenStream(t.Context(), "west", echoHeader(), []byte("x"))
		if err != nil {
			return err
		}
		_ = s.CloseWrite()
		b, err := io.ReadAll(s)
		_ = s.Close()
		if err != nil || string(b) != "x" {
			return fmt.Errorf("%q: %w", b, err)
		}
		resp, err := a.RoundTrip("west", echoHeader(), request(t, http.MethodPost, "http://echo.default.mesh/", strings.NewReader("body")))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if b, err = io.ReadAll(resp.Body); err != nil || string(b) != "body" {
			return fmt.Errorf("%q: %w", b, err)
		}
		return nil
	}
	a.Wait("streams and requests", func() bool { return takes() == nil })

	var calls atomic.Int64
	stop := make(chan struct{})
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(2 * time.Millisecond):
				}
				if err := takes(); err != nil {
					t.Errorf("after %d calls: %v", calls.Load(), err)
					return
				}
				calls.Add(1)
			}
		})
	}
	var streams []*tunnel.Stream
	left := make(map[*tunneltest.Gateway]chan error)
	for n := range processes {
		for range idle { // both ways
			streams = append(streams, openIdle(t, a))
			s, err := l.newest.OpenStream(t.Context(), "east", echoHeader(), []byte("x"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			streams = append(streams, s)
		}
		before := l.newest
		next := l.start(t, m.PeerOf("east"))
		next.WaitLink(a, tunnel.StateUp)
		l.steer(t, generation.Slot(n+1))
		done := make(chan error, 1)
		left[before] = done
		ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Minute, errors.New("the test's end"))
		t.Cleanup(cancel)
		go func() {
			before.Leave(ctx)
			done <- before.Drain(ctx)
		}()
		at := calls.Load()
		a.Wait("calls after the succession", func() bool { return calls.Load() > at+20 || t.Failed() })
	}
	a.Wait("the last process alone takes streams", func() bool {
		up := 0
		for _, i := range a.Links() {
			if i.State == tunnel.StateUp {
				up++
			}
		}
		// A link each way; only that of the last process where the peer is dialed.
		return up <= 2 && takes() == nil
	})
	close(stop)
	load.Wait()
	for i, s := range streams {
		if _, err := s.Write([]byte("still")); err != nil {
			t.Fatalf("stream %d: %v", i, err)
		}
		b := make([]byte, 5)
		if _, err := io.ReadFull(s, b); err != nil || string(b) != "still" {
			t.Fatalf("stream %d: %q, %v", i, b, err)
		}
		_ = s.CloseWrite()
		if rest, err := io.ReadAll(s); err != nil || len(rest) > 0 {
			t.Fatalf("stream %d: %q, %v", i, rest, err)
		}
		_ = s.Close()
	}
	for g, done := range left {
		if err := <-done; err != nil {
			t.Errorf("process %p cut streams: %v", g, err)
		}
	}
	t.Logf("figure: %d successions, %d calls, %d streams kept", processes, calls.Load(), len(streams))
	m.Close()
}

// TestASuccessorThatDiesLeavesTheLinks: the process before still serves those who did
// not go over.
func TestASuccessorThatDiesLeavesTheLinks(t *testing.T) {
	m := tunneltest.New(t, tunneltest.Config{Loopback: true})
	a := m.Add(tunneltest.Spec{Cluster: "east", Gateway: "gw1", Handler: tunneltest.Echo()})
	l := &line{m: m}
	first := l.start(t, m.PeerOf("east"))
	if err := a.SetPeers([]tunnel.Peer{m.PeerOf("west")}); err != nil {
		t.Fatal(err)
	}
	a.WaitLink(first, tunnel.StateUp)
	l.start(t, m.PeerOf("east")).Kill() // its socket stays, and nobody reads it
	l.steer(t, 1)
	first.AnnounceSuccessor()
	s := openIdle(t, a)
	time.Sleep(time.Second) // the peer tries to go over meanwhile
	if _, err := s.Write([]byte("y")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	_ = openIdle(t, a).Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() { time.Sleep(100 * time.Millisecond); _ = s.Close() }()
	first.Leave(ctx)
	if err := first.Drain(ctx); err != nil {
		t.Errorf("drain: %v", err)
	}
	if _, err := a.OpenStream(t.Context(), "west", echoHeader(), nil); err == nil {
		t.Error("a stream to a process that has left")
	} else if e, ok := errors.AsType[*tunnel.LinkError](err); !ok || e.Status != wire.Unreachable {
		t.Logf("as it should be refused: %v", err)
	}
	m.Close()
}
