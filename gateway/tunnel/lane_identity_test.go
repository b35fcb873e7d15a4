package tunnel_test

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
)

// The checks of QUIC's links (identity_test.go), on the TLS lane.

func TestImpostorsAreRefusedOnTLS(t *testing.T) {
	m := tunneltest.New(t, tunneltest.Config{Loopback: true, TLS: true, NoUDP: true})
	ca := m.CA(tunneltest.DefaultTrustDomain)
	a := m.Add(tunneltest.Spec{
		Cluster: "east", Gateway: "gw1", Handler: tunneltest.Echo(),
		Identity: ca.Source(tunneltest.Spec{Cluster: "east", Gateway: "gw1"}.GatewayID()),
	})
	west := tunneltest.Spec{Cluster: "west", Gateway: "gw1"}
	if err := a.SetPeers([]tunnel.Peer{{Cluster: "west", ID: west.ClusterID(), Gateways: []tunnel.PeerGateway{{Name: "gw1"}}}}); err != nil {
		t.Fatal(err)
	}
	for name, c := range impostors(m) {
		if c.reason == identity.ReasonNotYetValid {
			continue // its own end does not present it: see identity
		}
		if _, err := sayLane(t, a, c.source, "isthmus-tls/1", nil, laneHello()); err == nil {
			t.Errorf("%s who dials is answered", name)
		}
		if n := a.Connections(); n != 0 {
			t.Errorf("%s who dials has %d connections", name, n)
		}
	}
	m.Close()

	// Where they answer.
	for name, c := range impostors(m) {
		m := tunneltest.New(t, tunneltest.Config{Loopback: true, TLS: true, NoUDP: true})
		a := m.Add(tunneltest.Spec{
			Cluster: "east", Gateway: "gw1", Handler: tunneltest.Echo(),
			Identity: ca.Source(tunneltest.Spec{Cluster: "east", Gateway: "gw1"}.GatewayID()),
		})
		dialed := make(chan error, 64)
		answer(t, a, c.source, dialed)
		if err := <-dialed; err == nil {
			t.Errorf("%s who answers is spoken to", name)
		}
		if _, err := a.OpenStream(t.Context(), "west", echoHeader(), nil); err == nil {
			t.Errorf("%s who answers got a stream", name)
		}
		m.Close()
	}
}

// answer listens with source as gateway gw1 of west, to which g is then told to link.
// What becomes of each connection after the handshake goes to dialed: nil if it says
// anything.
func answer(t *testing.T, g *tunneltest.Gateway, source *identity.Source, dialed chan<- error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	go func() {
		defer close(done)
		for {
			raw, err := listener.Accept()
			if err != nil {
				return
			}
			_ = raw.SetDeadline(time.Now().Add(gross))
			c := tls.Server(raw, source.ServerTLS([]string{"isthmus-tls/1"}, identity.AuthorizeAny()))
			_, err = c.Read(make([]byte, 1))
			_ = raw.Close()
			select {
			case dialed <- err:
			default:
			}
		}
	}()
	west := tunneltest.Spec{Cluster: "west", Gateway: "gw1"}
	if err := g.SetPeers([]tunnel.Peer{{Cluster: "west", ID: west.ClusterID(), Gateways: []tunnel.PeerGateway{{
		Name: "gw1", Addresses: []string{listener.Addr().String()},
	}}}}); err != nil {
		t.Fatal(err)
	}
}

func laneHello() *wire.Hello {
	return &wire.Hello{
		MinVersion: 1, MaxVersion: 1, Cluster: "west", Gateway: "gw1",
		Instance: wire.ID{1}, Link: wire.ID{2}, Features: wire.FeatureReauth,
	}
}

// record is one of the TLS lane's, as package lane says.
func record(kind byte, body []byte) []byte {
	return append([]byte{kind, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
}

// sayLane dials g by TLS as source, says hello, or h as it is if raw is set, and returns
// the first bytes of the answer.
func sayLane(t *testing.T, g *tunneltest.Gateway, source *identity.Source, alpn string, change func(*tls.Config), h *wire.Hello, raw ...byte) ([]byte, error) {
	t.Helper()
	plain, err := net.Dial("tcp", g.Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	_ = plain.SetDeadline(time.Now().Add(gross))
	config := source.ClientTLS([]string{alpn}, identity.AuthorizeAny())
	if change != nil {
		change(config)
	}
	c := tls.Client(plain, config)
	if err := c.Handshake(); err != nil {
		return nil, err
	}
	if h != nil {
		b, err := wire.AppendHello(wire.AppendKind(nil, wire.KindControl), h)
		if err != nil {
			t.Fatal(err)
		}
		raw = append(record(1, b), raw...)
	}
	if _, err := c.Write(raw); err != nil {
		return nil, err
	}
	head := make([]byte, 4)
	if _, err := io.ReadFull(c, head); err != nil {
		return nil, err
	}
	if head[0] != 5 {
		return head, nil
	}
	var code [8]byte
	if _, err := io.ReadFull(c, code[:]); err != nil {
		return nil, err
	}
	status, _ := wire.StatusFromCode(binary.BigEndian.Uint64(code[:]))
	return nil, closedWith(status)
}

// closedWith is a connection that was closed with a status.
type closedWith wire.Status

func (c closedWith) Error() string { return "closed with " + wire.Status(c).String() }

// laneOpenTo is a gateway of east that knows gateway west/gw1, and the identity of the
// latter.
func laneOpenTo(t *testing.T) (*tunneltest.Mesh, *tunneltest.Gateway, *identity.Source) {
	t.Helper()
	m := tunneltest.New(t, tunneltest.Config{Loopback: true, TLS: true})
	a := m.Add(tunneltest.Spec{Cluster: "east", Gateway: "gw1", Handler: tunneltest.Echo()})
	west := tunneltest.Spec{Cluster: "west", Gateway: "gw1"}
	if err := a.SetPeers([]tunnel.Peer{{Cluster: "west", ID: west.ClusterID(), Gateways: []tunnel.PeerGateway{{Name: "gw1"}}}}); err != nil {
		t.Fatal(err)
	}
	return m, a, m.CA(tunneltest.DefaultTrustDomain).Source(west.GatewayID())
}

func TestStrangersOnTLS(t *testing.T) {
	m, a, source := laneOpenTo(t)
	defer m.Close()
	if _, err := sayLane(t, a, source, "isthmus-tls/1", nil, laneHello()); err != nil {
		t.Fatalf("who is a peer: %v", err)
	}
	for name, c := range map[string]struct {
		alpn   string
		change func(*tls.Config)
	}{
		"no certificate": {"isthmus-tls/1", func(c *tls.Config) {
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
		}},
		"another protocol":     {"h2", nil},
		"a protocol of later":  {"isthmus-tls/2", nil},
		"a protocol of QUIC's": {"isthmus/1", nil},
		"no protocol":          {"", func(c *tls.Config) { c.NextProtos = nil }},
		"tls 1.2":              {"isthmus-tls/1", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }},
	} {
		change := func(config *tls.Config) {
			config.VerifyConnection = nil // whatever we think of it
			if c.change != nil {
				c.change(config)
			}
		}
		if got, err := sayLane(t, a, source, c.alpn, change, laneHello()); err == nil {
			t.Errorf("%s: answered with %x", name, got)
		} else if _, told := errors.AsType[closedWith](err); told {
			t.Errorf("%s: %v: got past the handshake", name, err)
		}
	}
	a.Wait("nothing left of strangers", func() bool { return a.Connections() == 0 })
}

// A ticket would carry a certificate past its checks.
func TestNoSessionIsResumedOnTLS(t *testing.T) {
	m, a, source := laneOpenTo(t)
	defer m.Close()
	cache := tls.NewLRUClientSessionCache(4)
	for range 2 {
		var state tls.ConnectionState
		_, err := sayLane(t, a, source, "isthmus-tls/1", func(c *tls.Config) {
			c.ClientSessionCache, c.SessionTicketsDisabled, c.ServerName = cache, false, "gateway"
			c.VerifyConnection = func(cs tls.ConnectionState) error { state = cs; return nil }
		}, laneHello())
		if err != nil || state.DidResume {
			t.Errorf("resumed %v, %v", state.DidResume, err)
		}
	}
}

func TestHostileOnTLS(t *testing.T) {
	m, a, source := laneOpenTo(t)
	defer m.Close()
	hello := func(change func(*wire.Hello)) *wire.Hello {
		h := laneHello()
		change(h)
		return h
	}
	for name, c := range map[string]struct {
		alpn  string
		hello *wire.Hello
		raw   []byte
		want  wire.Status
	}{
		"another cluster's name": {"isthmus-tls/1", hello(func(h *wire.Hello) { h.Cluster = "north" }), nil, wire.WrongPeer},
		"another gateway's name": {"isthmus-tls/1", hello(func(h *wire.Hello) { h.Gateway = "gw2" }), nil, wire.WrongPeer},
		"a version of later":     {"isthmus-tls/1", hello(func(h *wire.Hello) { h.MinVersion, h.MaxVersion = 2, 3 }), nil, wire.Version},
		"a stream without link":  {"isthmus-tls/1", hello(func(h *wire.Hello) { h.Connection = 24 }), nil, wire.WrongPeer},
		"requests without link":  {"isthmus-h2/1", hello(func(h *wire.Hello) { h.Connection = 8 }), nil, wire.WrongPeer},
		"requests as a stream":   {"isthmus-tls/1", hello(func(h *wire.Hello) { h.Connection = 8 }), nil, wire.Protocol},
		"no hello":               {"isthmus-tls/1", nil, record(1, []byte{1, 0}), wire.Protocol},
		"an unknown record":      {"isthmus-tls/1", nil, record(9, nil), wire.Protocol},
		"an endless record":      {"isthmus-tls/1", nil, []byte{1, 0xff, 0xff, 0xff}, wire.Protocol},
		"a reset cut short":      {"isthmus-tls/1", nil, record(3, []byte{1}), wire.Protocol},
		"an end of nothing":      {"isthmus-tls/1", nil, record(2, nil), wire.Protocol},
		"the end of the control": {"isthmus-tls/1", hello(func(h *wire.Hello) { h.Link = wire.ID{9} }), record(2, nil), wire.OK},
	} {
		_, err := sayLane(t, a, source, c.alpn, nil, c.hello, c.raw...)
		if c.want == wire.OK {
			continue // answered first; what remains is below
		}
		if e, ok := errors.AsType[closedWith](err); !ok || wire.Status(e) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	a.Wait("nothing left of them", func() bool { return a.Connections() == 0 && len(a.Links()) == 0 })
}

// A rotation of certificates cuts nothing, on TLS as on QUIC: of every connection of the
// link, each of which carries a stream.
func TestRotationCostsNoStreamOnTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const life = 2 * time.Minute
		m := tunneltest.New(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}, TLS: true, NoUDP: true})
		defer m.Close()
		east, west := newRotor(t, "east", "a.test", life), newRotor(t, "west", "b.test", life)
		east.peers, west.peers = []*identity.Source{west.source}, []*identity.Source{east.source}
		east.tell()
		west.tell()
		a, b := m.Add(east.spec), m.Add(west.spec)
		connectQuietly(t, m, a, b)
		first := a.WaitLane(b, tunnel.LaneTLS, tunnel.StateUp)
		var streams []*tunnel.Stream
		for range 10 {
			s := openTo(t, a, "west")
			defer s.Close()
			streams = append(streams, s)
		}
		for range 3 {
			time.Sleep(life / 2)
			east.rotate()
			west.rotate()
			time.Sleep(time.Second)
			for _, s := range streams {
				if err := echoOnce(s, []byte("x")); err != nil {
					t.Fatalf("%v after the first certificate's end: %v", -time.Until(first.Expires), err)
				}
			}
		}
		if now := a.WaitLane(b, tunnel.LaneTLS, tunnel.StateUp); !now.Expires.After(first.Expires) || now.Since != first.Since {
			t.Errorf("the link is another, or has not been proven anew: %+v", now)
		}
		// An authority that leaves takes the link with it, streams and all.
		west.signs = identitytest.NewCA("b.test")
		west.all = []*identitytest.CA{west.signs}
		west.tell()
		for _, s := range streams {
			_, err := s.Read(make([]byte, 1))
			expectRevoked(t, "a stream whose authority has left", err)
		}
	})
}

// Whoever proves nothing new is cut off when the first certificate ends.
func TestExpiryEndsTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := tunneltest.New(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}, TLS: true, NoUDP: true})
		defer m.Close()
		east, west := newRotor(t, "east", "a.test", 24*time.Hour), newRotor(t, "west", "b.test", 2*time.Minute)
		east.peers, west.peers = []*identity.Source{west.source}, []*identity.Source{east.source}
		east.tell()
		west.tell()
		a, b := m.Add(east.spec), m.Add(west.spec)
		connectQuietly(t, m, a, b)
		ends := a.WaitLane(b, tunnel.LaneTLS, tunnel.StateUp).Expires
		s := openTo(t, a, "west")
		defer s.Close()
		_, err := s.Read(make([]byte, 1))
		expectRevoked(t, "a stream whose link has expired", err)
		if late := time.Since(ends); late < 0 || late > time.Second {
			t.Errorf("ended %v after the certificate", late)
		}
	})
}
