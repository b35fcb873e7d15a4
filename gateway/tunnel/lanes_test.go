package tunnel_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// These run on real sockets and in real time. What is asserted of time is only what
// no machine misses; figures are printed.

// gross is how long anything may take before it is taken for broken.
const gross = 20 * time.Second

// eachLane runs a test on real sockets, once over QUIC and once over TLS, where UDP is
// blocked from the start.
func eachLane(t *testing.T, test func(t *testing.T, c tunneltest.Config)) {
	t.Helper()
	for on, c := range map[tunnel.Lane]tunneltest.Config{
		tunnel.LaneQUIC: {Loopback: true},
		tunnel.LaneTLS:  {Loopback: true, TLS: true, NoUDP: true},
	} {
		t.Run(string(on), func(t *testing.T) {
			t.Helper()
			test(t, c)
		})
	}
}

// laneOf opens a stream, waits for its echo and says what carried it; ok is false
// where there is no way.
func laneOf(t *testing.T, g *tunneltest.Gateway) (on tunnel.Lane, ok bool) {
	t.Helper()
	s, err := g.OpenStream(t.Context(), "west", echoHeader(), nil)
	if err != nil {
		return "", false
	}
	defer s.Close()
	return s.Lane(), echoOnce(s, []byte("x")) == nil
}

// until opens streams until one goes by that lane, and returns how long that took.
func until(t *testing.T, g *tunneltest.Gateway, on tunnel.Lane, since time.Time) time.Duration {
	t.Helper()
	g.Wait("a stream by "+string(on), func() bool {
		got, ok := laneOf(t, g)
		return ok && got == on
	})
	return time.Since(since)
}

func request2xx(t *testing.T, g *tunneltest.Gateway) error {
	t.Helper()
	resp, err := g.RoundTrip("west", echoHeader(), request(t, http.MethodPost, "http://echo/", strings.NewReader("body")))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "body" {
		return errors.Join(err, errors.New("answered "+string(b)))
	}
	return nil
}

// simulated is a pair 40 ms apart, one way, with the TLS lane.
func simulated(t *testing.T, noUDP bool) (m *tunneltest.Mesh, a, b *tunneltest.Gateway) {
	t.Helper()
	return pair(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}, TLS: true, NoUDP: noUDP}, promptEcho(), promptEcho())
}

func TestUDPIsBlockedFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		m, a, b := simulated(t, true)
		defer m.Close()
		took := until(t, a, tunnel.LaneTLS, start)
		t.Logf("figure: UDP blocked from the start: carries by TLS after %v of simulated time", took)
		if took > 3*time.Second {
			t.Errorf("took %v", took)
		}
		if err := request2xx(t, a); err != nil {
			t.Error(err)
		}
		link := a.WaitLane(b, tunnel.LaneTLS, tunnel.StateUp)
		if link.Reason != "" || link.Connections < 3 || link.Expires.IsZero() {
			t.Errorf("link %+v", link)
		}
		time.Sleep(time.Second)
		if rtt := a.WaitLane(b, tunnel.LaneTLS, tunnel.StateUp).RTT; rtt != 2*delay {
			t.Errorf("round trip %v", rtt)
		}
	})
}

// Requests last on the lane, and so do its connections.
func TestALongRequestByTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, b := simulated(t, true)
		defer m.Close()
		a.WaitLane(b, tunnel.LaneTLS, tunnel.StateUp)
		in, out := io.Pipe()
		resp, err := a.RoundTrip("west", echoHeader(), request(t, http.MethodPost, "http://echo/", in))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		buf := make([]byte, 1)
		for i := range 60 {
			if _, err := out.Write([]byte{byte(i)}); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(resp.Body, buf); err != nil || buf[0] != byte(i) {
				t.Fatalf("second %d: %v, %v", i, buf, err)
			}
			time.Sleep(time.Second)
		}
		_ = out.Close()
		if _, err := io.ReadFull(resp.Body, buf); !errors.Is(err, io.EOF) {
			t.Errorf("at the end: %v", err)
		}
		time.Sleep(time.Minute)
		if l := a.WaitLane(b, tunnel.LaneTLS, tunnel.StateUp); time.Since(l.Since) < time.Minute {
			t.Errorf("the link is another: %+v", l)
		}
		if err := request2xx(t, a); err != nil {
			t.Errorf("much later: %v", err)
		}
	})
}

// The way down the ladder and up again, with a stream on each lane.
func TestUDPDiesAndHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, b := simulated(t, false)
		defer m.Close()
		time.Sleep(time.Minute)
		old := openTo(t, a, "west")
		defer old.Close()
		if links := a.Links(); old.Lane() != tunnel.LaneQUIC || len(links) != 2 {
			t.Fatalf("by %s while UDP works, with links %+v", old.Lane(), links)
		}

		cut := time.Now()
		m.BlockUDP(true)
		_, err := old.Read(make([]byte, 1))
		if e, ok := errors.AsType[*tunnel.LinkError](err); !ok || e.Status != wire.LinkDead {
			t.Errorf("the stream on QUIC: %v", err)
		}
		reset := time.Since(cut)
		took := until(t, a, tunnel.LaneTLS, cut)
		t.Logf("figure: UDP dies: its streams are reset after %v, TLS carries after %v of simulated time", reset, took)
		if reset > time.Second || took > 2*time.Second {
			t.Errorf("took %v and %v", reset, took)
		}
		if err := request2xx(t, a); err != nil {
			t.Error(err)
		}

		stays := openTo(t, a, "west")
		defer stays.Close()
		if stays.Lane() != tunnel.LaneTLS {
			t.Errorf("by %s while UDP is blocked", stays.Lane())
		}
		time.Sleep(time.Minute)
		healed := time.Now()
		m.BlockUDP(false)
		took = until(t, a, tunnel.LaneQUIC, healed)
		t.Logf("figure: UDP heals: new streams by QUIC after %v of simulated time", took)
		if took > time.Minute {
			t.Errorf("took %v", took)
		}
		// The stream stays where it is, and the link for as long as it is there.
		for range 3 {
			time.Sleep(time.Minute)
			if err := echoOnce(stays, []byte("x")); err != nil {
				t.Fatalf("the stream on TLS: %v", err)
			}
			if on, ok := laneOf(t, a); !ok || on != tunnel.LaneQUIC {
				t.Errorf("a new stream by %s, %v", on, ok)
			}
		}
		a.WaitLane(b, tunnel.LaneTLS, tunnel.StateDraining)
		_ = stays.Close()
		time.Sleep(time.Minute)
		for _, l := range append(a.Links(), b.Links()...) {
			if l.Lane == tunnel.LaneTLS {
				t.Errorf("a link of TLS that is not needed: %+v", l)
			}
		}
	})
}

// A path that takes handshakes and loses what follows is left alone for longer and
// longer, and calls go by TLS meanwhile.
func TestUDPFlaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, _ := simulated(t, false)
		defer m.Close()
		stop := time.Now().Add(2 * time.Minute)
		resets, opened := 0, 0
		for time.Now().Before(stop) {
			m.BlockUDP(!m.UDPBlocked())
			for range 20 {
				s, err := a.OpenStream(t.Context(), "west", echoHeader(), nil)
				if err == nil {
					err = errors.Join(echoOnce(s, []byte("x")), s.Close())
				}
				if opened++; err != nil {
					resets++
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
		t.Logf("figure: UDP gone for 2 s of every 4: %d of %d calls failed", resets, opened)
		// Without the ladder it is one or two of each cut, and there are 30.
		if resets > 10 {
			t.Errorf("%d of %d calls failed", resets, opened)
		}
	})
}

// Where both lanes fall silent at once, it is the gateway or the whole path: TLS, which
// needs longer to be sure, is not taken for a way out meanwhile.
func TestSilenceOnBothLanesIsNoFallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, b := simulated(t, true)
		defer m.Close()
		a.WaitLane(b, tunnel.LaneTLS, tunnel.StateUp)
		m.BlockUDP(false)
		until(t, a, tunnel.LaneQUIC, time.Now())
		time.Sleep(time.Second)
		a.WaitLane(b, tunnel.LaneTLS, tunnel.StateUp) // it is kept for a while
		cut := time.Now()
		m.BlockUDP(true)
		m.CutTCP()
		for {
			s, err := a.OpenStream(t.Context(), "west", echoHeader(), nil)
			if err != nil {
				break
			}
			if s.Lane() != tunnel.LaneQUIC {
				t.Errorf("by %s after %v", s.Lane(), time.Since(cut))
			}
			_ = s.Close()
			time.Sleep(5 * time.Millisecond)
		}
		took := time.Since(cut)
		t.Logf("figure: a silent gateway is given up after %v of simulated time", took)
		if took > time.Second {
			t.Errorf("given up after %v", took)
		}
	})
}

// A gateway that has died is not taken for one that TLS may still reach.
func TestADeadGatewayHasNoLane(t *testing.T) {
	m, a, b := pair(t, tunneltest.Config{Loopback: true, TLS: true, NoUDP: true}, tunneltest.Echo(), tunneltest.Echo())
	defer m.Close()
	s := openTo(t, a, "west")
	defer s.Close()
	b.Kill()
	if _, err := s.Read(make([]byte, 1)); err == nil {
		t.Error("read from the dead")
	}
	a.Wait("no way", func() bool {
		_, err := a.OpenStream(t.Context(), "west", echoHeader(), nil)
		e, ok := errors.AsType[*tunnel.LinkError](err)
		return ok && e.Status == wire.Unreachable
	})
	b.Start()
	if err := b.SetPeers([]tunnel.Peer{m.PeerOf("east")}); err != nil {
		t.Fatal(err)
	}
	until(t, a, tunnel.LaneTLS, time.Now())
}

// Where only the other side can dial, it calls back by TLS as well.
func TestCallBackByTLS(t *testing.T) {
	m := tunneltest.New(t, tunneltest.Config{Loopback: true, TLS: true, NoUDP: true})
	defer m.Close()
	a := m.Add(tunneltest.Spec{Cluster: "east", Gateway: "gw1", Handler: tunneltest.Echo()})
	b := m.Add(tunneltest.Spec{Cluster: "west", Gateway: "gw1", Handler: tunneltest.Echo()})
	behindNAT := m.PeerOf("west")
	behindNAT.Gateways[0].Addresses = nil
	if err := errors.Join(a.SetPeers([]tunnel.Peer{behindNAT}), b.SetPeers([]tunnel.Peer{m.PeerOf("east")})); err != nil {
		t.Fatal(err)
	}
	until(t, a, tunnel.LaneTLS, time.Now())
	a.Wait("a request", func() bool { return request2xx(t, a) == nil })
	manyStreams(t, a, 40)
}

// manyStreams opens streams at once and holds them, each with bytes of its own.
func manyStreams(t *testing.T, g *tunneltest.Gateway, count int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg, open sync.WaitGroup
	open.Add(count)
	for i := range count {
		wg.Go(func() {
			s, err := g.OpenStream(ctx, "west", echoHeader(), nil)
			// A burst is refused where its handshakes take longer than a stream waits.
			for refused := (*tunnel.RefusedError)(nil); errors.As(err, &refused) && refused.Status == wire.Overloaded && ctx.Err() == nil; {
				s, err = g.OpenStream(ctx, "west", echoHeader(), nil)
			}
			open.Done()
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			open.Wait()
			for range 3 {
				if err := echoOnce(s, []byte{byte(i), byte(i >> 8)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// Streams have connections of their own, which are used again.
func TestConnectionsOfThePoolAreUsedAgain(t *testing.T) {
	m, a, b := pair(t, tunneltest.Config{Loopback: true, TLS: true, NoUDP: true}, tunneltest.Echo(), tunneltest.Echo())
	defer m.Close()
	for range 300 {
		if _, ok := laneOf(t, a); !ok {
			t.Fatal("no stream")
		}
	}
	if l := a.WaitLane(b, tunnel.LaneTLS, tunnel.StateUp); l.Connections > 20 {
		t.Errorf("%d connections for one stream after the other", l.Connections)
	}
	manyStreams(t, a, 120)
	for range 300 {
		if _, ok := laneOf(t, a); !ok {
			t.Fatal("no stream")
		}
	}
	if l := a.WaitLane(b, tunnel.LaneTLS, tunnel.StateUp); l.Connections > 300 {
		t.Errorf("%d connections after 120 streams at once", l.Connections)
	}
}

// Who is no longer a peer is cut off on this lane as well, streams and all.
func TestRevocationCutsTLS(t *testing.T) {
	m, a, b := pair(t, tunneltest.Config{Loopback: true, TLS: true, NoUDP: true}, tunneltest.Echo(), tunneltest.Echo())
	defer m.Close()
	s := openTo(t, a, "west")
	defer s.Close()
	if err := b.SetPeers(nil); err != nil {
		t.Fatal(err)
	}
	_, err := s.Read(make([]byte, 1))
	expectRevoked(t, "a stream by TLS", err)
	a.Wait("refusal", func() bool {
		for _, l := range a.Links() {
			if l.State == tunnel.StateUp {
				return false
			}
		}
		return true
	})
	if _, ok := laneOf(t, a); ok {
		t.Error("a stream went through")
	}
}
