package tunnel_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
)

// openTo opens a stream to a cluster and waits for its echo.
func openTo(t *testing.T, g *tunneltest.Gateway, cluster string) *tunnel.Stream {
	t.Helper()
	s, err := g.OpenStream(t.Context(), cluster, echoHeader(), nil)
	if err == nil {
		err = echoOnce(s, []byte("x"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func expectRevoked(t *testing.T, name string, err error) {
	t.Helper()
	if e, ok := errors.AsType[*tunnel.LinkError](err); !ok || e.Status != wire.Revoked {
		t.Errorf("%s: %v", name, err)
	}
}

// ending is how something in progress ended, and when.
type ending struct {
	what string
	err  error
	at   time.Time
}

// witness is a handler that tells how inbound streams and requests end.
func witness(cluster string, endings chan<- ending) tunneltest.Handler {
	echo := promptEcho()
	return tunneltest.Handler{
		Stream: func(_ context.Context, in *tunnel.Inbound) {
			_, err := io.Copy(in, in)
			endings <- ending{cluster + " serves stream", err, time.Now()}
		},
		HTTP: func(w http.ResponseWriter, r *http.Request) {
			body := &lastError{ReadCloser: r.Body}
			r.Body = body
			echo.HTTP(w, r)
			endings <- ending{cluster + " serves request", body.err, time.Now()}
		},
	}
}

type lastError struct {
	io.ReadCloser
	err error
}

func (l *lastError) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	if err != nil {
		l.err = err
	}
	return n, err
}

// inProgress opens a stream and a request to a cluster that go on until they are
// ended.
func inProgress(t *testing.T, g *tunneltest.Gateway, to string, endings chan<- ending) {
	t.Helper()
	s := openTo(t, g, to)
	in, out := io.Pipe()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://echo.default/", in)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := g.RoundTrip(to, echoHeader(), req) //nolint:bodyclose // closed when it has ended
	if err != nil {
		t.Fatal(err)
	}
	if err := echoOnce(readWriter{resp.Body, out}, []byte("x")); err != nil {
		t.Fatal(err)
	}
	name := g.Spec.Cluster
	go func() {
		_, err := s.Read(make([]byte, 1))
		endings <- ending{name + " stream", err, time.Now()}
		_ = s.Close()
	}()
	go func() {
		_, err := resp.Body.Read(make([]byte, 1))
		endings <- ending{name + " request", err, time.Now()}
		_ = resp.Body.Close()
		_ = out.Close()
	}()
}

// TestRevocationEndsAllWithinASecond: whatever makes a peer one no longer, streams
// and requests of both directions end at both ends, typed: at the end that knows at
// once, at the other as soon as the path allows.
func TestRevocationEndsAllWithinASecond(t *testing.T) {
	otherRoster := func(m *tunneltest.Mesh) []tunnel.Peer {
		p := m.PeerOf("west")
		p.Gateways[0].Name, p.Gateways[0].ID = "gw2", ""
		return []tunnel.Peer{p}
	}
	for name, revoke := range map[string]func(m *tunneltest.Mesh, a *tunneltest.Gateway, west *rotor) error{
		"the peer is removed":     func(_ *tunneltest.Mesh, a *tunneltest.Gateway, _ *rotor) error { return a.SetPeers(nil) },
		"the gateway is replaced": func(m *tunneltest.Mesh, a *tunneltest.Gateway, _ *rotor) error { return a.SetPeers(otherRoster(m)) },
		"the bundle is removed": func(_ *tunneltest.Mesh, a *tunneltest.Gateway, west *rotor) error {
			a.Identity.RemovePeerBundle(west.signs.TrustDomain())
			return nil
		},
		"the authority leaves the bundle": func(_ *tunneltest.Mesh, a *tunneltest.Gateway, west *rotor) error {
			next := identitytest.NewCA("b.test")
			return a.Identity.SetPeerBundle(west.signs.TrustDomain(), identitytest.BundleJSON(west.signs.TrustDomain(), 99, next.Certificate()))
		},
		// The handshake was under a root that is still trusted: what counts is what
		// was proven since.
		"the authority of the last proof leaves": func(_ *tunneltest.Mesh, a *tunneltest.Gateway, west *rotor) error {
			first := west.signs
			west.signs = identitytest.NewCA("b.test")
			west.trust(first, west.signs)
			time.Sleep(time.Second)
			return a.Identity.SetPeerBundle(first.TrustDomain(), identitytest.BundleJSON(first.TrustDomain(), 99, first.Certificate()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				endings := make(chan ending, 16)
				m, east, west, a, b := rotors(t, time.Hour, nil, func(s *tunneltest.Spec) { s.Handler = witness(s.Cluster, endings) })
				defer m.Close()
				m.Connect()
				a.Wait("requests both ways", func() bool { return ready(a, b) })
				inProgress(t, a, "west", endings)
				inProgress(t, b, "east", endings)
				_ = east
				if err := revoke(m, a, west); err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				seen := make(map[string]bool)
				for range 8 {
					e := <-endings
					seen[e.what] = true
					expectRevoked(t, e.what, e.err)
					if d := e.at.Sub(start); d > delay {
						t.Errorf("%s: ended after %v", e.what, d)
					}
				}
				if len(seen) != 8 {
					t.Errorf("ended: %v", seen)
				}
				time.Sleep(5 * time.Second)
				for _, l := range append(a.Links(), b.Links()...) {
					if l.State != tunnel.StateDown {
						t.Errorf("link %+v", l)
					}
				}
				// Both ends dial again and are refused: one handshake may be under way at
				// any moment, but what was there before would be there always.
				left := a.Connections() + b.Connections()
				for began := time.Now(); left != 0 && time.Since(began) < time.Minute; left = a.Connections() + b.Connections() {
					time.Sleep(10 * time.Millisecond)
				}
				if left != 0 {
					t.Errorf("%d connections are left", left)
				}
			})
		})
	}
}

// ready waits for the links' HTTP connections.
func ready(all ...*tunneltest.Gateway) bool {
	for _, g := range all {
		for _, l := range g.Links() {
			if l.Connections < 4 {
				return false
			}
		}
	}
	return true
}

// The word of a revocation may be lost on the way. Who was revoked then finds out
// by its probes; nothing that it sends is served meanwhile.
func TestRevocationThatIsNotHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _, west, a, b := rotors(t, time.Hour, nil)
		defer m.Close()
		m.Connect()
		near, far := openTo(t, a, "west"), openTo(t, b, "east")
		defer near.Close()
		defer far.Close()
		m.Network.SetPath(a.Addr.Addr(), b.Addr.Addr(), tunneltest.Path{Delay: delay, Cut: true})
		start := time.Now()
		a.Identity.RemovePeerBundle(west.signs.TrustDomain())
		_, err := near.Read(make([]byte, 1))
		expectRevoked(t, "the end that knows", err)
		if d := time.Since(start); d != 0 {
			t.Errorf("it took %v", d)
		}
		_, err = far.Read(make([]byte, 1))
		if e, ok := errors.AsType[*tunnel.LinkError](err); !ok || e.Status != wire.LinkDead {
			t.Errorf("the other end: %v", err)
		}
		if d := time.Since(start); d > time.Second {
			t.Errorf("the other end went on for %v", d)
		}
	})
}

// A peer behind NAT is called back over connections that it dialed: they end too.
func TestRevocationOfCallbacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		endings := make(chan ending, 16)
		m, _, west, a, b := rotors(t, time.Hour, nil, func(s *tunneltest.Spec) { s.Handler = witness(s.Cluster, endings) })
		defer m.Close()
		p := m.PeerOf("west")
		p.Gateways[0].Addresses = nil // only west can dial
		if err := a.SetPeers([]tunnel.Peer{p}); err != nil {
			t.Fatal(err)
		}
		if err := b.SetPeers([]tunnel.Peer{m.PeerOf("east")}); err != nil {
			t.Fatal(err)
		}
		b.WaitLink(a, tunnel.StateUp)
		b.Wait("callbacks", func() bool { return b.Links()[0].Connections == 6 })
		time.Sleep(time.Second)
		// Also what came by rotation: all six are proven anew.
		west.rotate()
		time.Sleep(time.Second)
		inProgress(t, a, "west", endings)
		start := time.Now()
		a.Identity.RemovePeerBundle(west.signs.TrustDomain())
		for range 4 {
			e := <-endings
			expectRevoked(t, e.what, e.err)
			if d := e.at.Sub(start); d > delay {
				t.Errorf("%s: ended after %v", e.what, d)
			}
		}
	})
}

// The same on real sockets, where the time is a figure and no assertion.
func TestRevocationOnRealSockets(t *testing.T) {
	const each = 20 // streams, and requests, from each end
	endings := make(chan ending, 16*each)
	m := tunneltest.New(t, tunneltest.Config{Loopback: true})
	defer m.Close()
	m.CA("a.test")
	other := m.CA("b.test")
	a := m.Add(tunneltest.Spec{Cluster: "east", Gateway: "gw1", TrustDomain: "a.test", Handler: witness("east", endings)})
	b := m.Add(tunneltest.Spec{Cluster: "west", Gateway: "gw1", TrustDomain: "b.test", Handler: witness("west", endings)})
	m.Connect()
	a.Wait("requests both ways", func() bool { return ready(a, b) })
	for range each {
		inProgress(t, a, "west", endings)
		inProgress(t, b, "east", endings)
	}
	start := time.Now()
	a.Identity.RemovePeerBundle(other.TrustDomain())
	var last time.Duration
	for range 8 * each {
		select {
		case e := <-endings:
			expectRevoked(t, e.what, e.err)
			last = max(last, e.at.Sub(start))
		case <-time.After(20 * time.Second):
			t.Fatal("not all has ended")
		}
	}
	t.Logf("figure: %d streams and requests ended at both ends %v after the revocation", 4*each, last.Round(time.Millisecond))
}
