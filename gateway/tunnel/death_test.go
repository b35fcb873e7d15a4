package tunnel_test

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// deadline is how soon a cut must be noticed: seven intervals of 100 ms, half of one
// until that is looked at, and what was under way.
const deadline = 800 * time.Millisecond

// waitDown waits until none of g's links is up or draining, and returns how long
// that took.
func waitDown(g *tunneltest.Gateway) time.Duration {
	start := time.Now()
	g.Wait("no link up", func() bool {
		for _, l := range g.Links() {
			if l.State == tunnel.StateUp || l.State == tunnel.StateDraining {
				return false
			}
		}
		return true
	})
	return time.Since(start)
}

// openIdle opens a stream whose handler waits for more.
func openIdle(t *testing.T, a *tunneltest.Gateway) *tunnel.Stream {
	t.Helper()
	s, err := a.OpenStream(t.Context(), "west", echoHeader(), []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBlackHoleIsNoticedWithinSevenProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, b := pair(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}}, tunneltest.Echo(), tunneltest.Echo())
		defer m.Close()
		for phase := range 10 { // of the probes against the cut
			time.Sleep(3*time.Second + time.Duration(phase)*20*time.Millisecond)
			s := openIdle(t, a)
			cut := tunneltest.Path{Delay: delay, Cut: true}
			m.Network.SetPath(a.Addr.Addr(), b.Addr.Addr(), cut)
			m.Network.SetPath(b.Addr.Addr(), a.Addr.Addr(), cut)
			start := time.Now()
			_, err := s.Read(make([]byte, 1))
			dead, ok := errors.AsType[*tunnel.LinkError](err)
			if !ok || dead.Status != wire.LinkDead || !dead.Delivered {
				t.Fatalf("read: %v", err)
			}
			took := time.Since(start)
			t.Logf("phase %d: the stream was reset after %v", phase, took)
			if took > deadline || took < 400*time.Millisecond {
				t.Errorf("phase %d: noticed after %v", phase, took)
			}
			_ = s.Close()
			waitDown(a)
			waitDown(b)
			if d := time.Since(start); d > deadline {
				t.Errorf("phase %d: the other end noticed after %v", phase, d)
			}
			if _, err := a.OpenStream(t.Context(), "west", echoHeader(), nil); err == nil {
				t.Error("a stream was opened without a link")
			} else if e, ok := errors.AsType[*tunnel.LinkError](err); !ok || e.Delivered {
				t.Errorf("open without a link: %v", err)
			}
			m.Network.SetPath(a.Addr.Addr(), b.Addr.Addr(), tunneltest.Path{Delay: delay})
			m.Network.SetPath(b.Addr.Addr(), a.Addr.Addr(), tunneltest.Path{Delay: delay})
			a.WaitLink(b, tunnel.StateUp)
			b.WaitLink(a, tunnel.StateUp)
		}
	})
}

func TestOneWayCutIsSeenByBothEnds(t *testing.T) {
	for name, toFar := range map[string]bool{"towards the far end": true, "towards the near end": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, a, b := pair(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}}, tunneltest.Echo(), tunneltest.Echo())
				defer m.Close()
				time.Sleep(3 * time.Second)
				from, to := a, b
				if !toFar {
					from, to = b, a
				}
				start := time.Now()
				m.Network.SetPath(from.Addr.Addr(), to.Addr.Addr(), tunneltest.Path{Delay: delay, Cut: true})
				waitDown(a)
				near := time.Since(start)
				waitDown(b)
				far := time.Since(start)
				t.Logf("near end after %v, both after %v", near, far)
				if near > deadline || far > deadline {
					t.Errorf("noticed after %v and %v", near, far)
				}
			})
		})
	}
}

// TestNoFalseDeath: jitter and loss of a bad day must not look like a cut.
func TestNoFalseDeath(t *testing.T) {
	hours := 2 * time.Hour
	if testing.Short() || raceEnabled {
		hours = 10 * time.Minute
	}
	synctest.Test(t, func(t *testing.T) {
		path := tunneltest.Path{Delay: delay, Jitter: 50 * time.Millisecond, Loss: .02}
		m, a, b := pair(t, tunneltest.Config{Path: path, Seed: 1}, tunneltest.Echo(), tunneltest.Echo())
		defer m.Close()
		born := a.WaitLink(b, tunnel.StateUp).Since
		time.Sleep(hours)
		l := a.WaitLink(b, tunnel.StateUp)
		if !l.Since.Equal(born) {
			t.Errorf("the link of %v was replaced at %v: %+v", born, l.Since, l)
		}
		if l := b.WaitLink(a, tunnel.StateUp); time.Since(l.Since) < hours {
			t.Errorf("the other link was replaced: %+v", l)
		}
		t.Logf("%v, %d packets: rtt %v (least %v, jitter %v), loss %.3f", hours, m.Network.Packets(), l.RTT, l.MinRTT, l.Jitter, l.Loss)
		if l.MinRTT < 2*delay || l.MinRTT > 2*delay+20*time.Millisecond {
			t.Errorf("least round trip %v", l.MinRTT)
		}
		if l.RTT < 2*delay+20*time.Millisecond || l.RTT > 2*delay+80*time.Millisecond {
			t.Errorf("round trip %v, want about %v", l.RTT, 2*delay+50*time.Millisecond)
		}
		if l.Jitter < time.Millisecond || l.Jitter > 50*time.Millisecond {
			t.Errorf("jitter %v", l.Jitter)
		}
	})
}

func TestPathIsMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := tunneltest.Path{Delay: delay}
		m, a, b := pair(t, tunneltest.Config{Path: path}, tunneltest.Echo(), tunneltest.Echo())
		defer m.Close()
		time.Sleep(5 * time.Second)
		l := a.WaitLink(b, tunnel.StateUp)
		if l.RTT != 2*delay || l.MinRTT != 2*delay || l.Loss != 0 {
			t.Errorf("rtt %v, least %v, loss %v; want exactly %v and no loss", l.RTT, l.MinRTT, l.Loss, 2*delay)
		}
		if l.Connections != 4 || l.BytesSent == 0 || l.BytesReceived == 0 {
			t.Errorf("link %+v", l)
		}
		path.Loss = .1
		m.Network.SetPath(a.Addr.Addr(), b.Addr.Addr(), path)
		time.Sleep(2 * time.Minute)
		if l := a.WaitLink(b, tunnel.StateUp); l.Loss < .02 || l.Loss > .3 {
			t.Errorf("loss %v, want about 0.1", l.Loss)
		}
	})
}
