package tunnel_test

import (
	"crypto/tls"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
)

// impostors are identities with which a gateway of "west" must not be believed.
// reason is what who checks it finds.
func impostors(m *tunneltest.Mesh) map[string]struct {
	source *identity.Source
	reason identity.Reason
} {
	ca, other := m.CA(tunneltest.DefaultTrustDomain), identitytest.NewCA("elsewhere.test")
	west := tunneltest.Spec{Cluster: "west", Gateway: "gw1"}.GatewayID()
	trust := func(ca *identitytest.CA) *x509bundle.Bundle { return ca.Bundle() }
	forged := identitytest.NewCA(tunneltest.DefaultTrustDomain) // same name, another key
	return map[string]struct {
		source *identity.Source
		reason identity.Reason
	}{
		"an id of another workload": {ca.Source(ca.ID("/web")), identity.ReasonUnauthorized},
		"the id of a cluster, not of a gateway": {
			ca.Source(tunneltest.Spec{Cluster: "west"}.ClusterID()), identity.ReasonUnauthorized,
		},
		"a gateway of another cluster": {
			ca.Source(tunneltest.Spec{Cluster: "north", Gateway: "gw1"}.GatewayID()), identity.ReasonUnauthorized,
		},
		"a gateway that is not in the roster": {
			ca.Source(tunneltest.Spec{Cluster: "west", Gateway: "gw9"}.GatewayID()), identity.ReasonUnauthorized,
		},
		"a trust domain that is not known": {
			other.Source(other.ID("/isthmus/cluster/west/gateway/gw1"), trust(ca)), identity.ReasonUnknownTrustDomain,
		},
		"the right id from another authority": {
			identity.NewStatic(forged.SVID(west), trust(ca)), identity.ReasonUntrustedChain,
		},
		"the right id from an authority of another domain": {
			identity.NewStatic(other.SVID(west), trust(ca)), identity.ReasonUntrustedChain,
		},
		"two ids": {
			identity.NewStatic(ca.TwoURIs(west, ca.ID("/web")), trust(ca)), identity.ReasonMalformedID,
		},
		"a certificate authority": {
			identity.NewStatic(ca.CAAsLeaf(west), trust(ca)), identity.ReasonNotLeaf,
		},
		"a certificate of tomorrow": {
			identity.NewStatic(ca.NotYetValid(west), trust(ca)), identity.ReasonNotYetValid,
		},
	}
}

func TestImpostorsAreRefusedWhereTheyAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		scratch := tunneltest.New(t, tunneltest.Config{})
		defer scratch.Close()
		for name, c := range impostors(scratch) {
			m := tunneltest.New(t, tunneltest.Config{})
			ca := scratch.CA(tunneltest.DefaultTrustDomain)
			a := m.Add(tunneltest.Spec{
				Cluster: "east", Gateway: "gw1", Handler: tunneltest.Echo(),
				Identity: ca.Source(tunneltest.Spec{Cluster: "east", Gateway: "gw1"}.GatewayID()),
			})
			b := m.Add(tunneltest.Spec{Cluster: "west", Gateway: "gw1", Handler: tunneltest.Echo(), Identity: c.source})
			connectQuietly(t, m, a, b)
			var info tunnel.LinkInfo
			a.Wait("link down", func() bool {
				for _, l := range a.Links() {
					info = l
				}
				return info.State == tunnel.StateDown
			})
			if info.Reason != string(c.reason) {
				t.Errorf("%s: reason %q, want %q", name, info.Reason, c.reason)
			}
			if _, err := a.OpenStream(t.Context(), "west", echoHeader(), nil); err == nil {
				t.Errorf("%s: a stream was opened", name)
			}
			m.Close()
		}
	})
}

func TestImpostorsAreRefusedWhereTheyDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		scratch := tunneltest.New(t, tunneltest.Config{})
		defer scratch.Close()
		for name, c := range impostors(scratch) {
			if c.reason == identity.ReasonNotYetValid {
				continue // its own end does not present it: see identity
			}
			m := tunneltest.New(t, tunneltest.Config{})
			ca := scratch.CA(tunneltest.DefaultTrustDomain)
			a := m.Add(tunneltest.Spec{
				Cluster: "east", Gateway: "gw1", Handler: tunneltest.Echo(),
				Identity: ca.Source(tunneltest.Spec{Cluster: "east", Gateway: "gw1"}.GatewayID()),
			})
			b := m.Add(tunneltest.Spec{Cluster: "west", Gateway: "gw1", Handler: tunneltest.Echo(), Identity: c.source})
			// a knows west, and has no address to dial it.
			p := m.PeerOf("west")
			p.Gateways[0].Addresses = nil
			if err := a.SetPeers([]tunnel.Peer{p}); err != nil {
				t.Fatal(err)
			}
			if err := b.SetPeers([]tunnel.Peer{m.PeerOf("east")}); err != nil {
				t.Fatal(err)
			}
			var info tunnel.LinkInfo
			b.Wait("link down", func() bool {
				for _, l := range b.Links() {
					info = l
				}
				return info.State == tunnel.StateDown
			})
			if info.Reason != "rejected" {
				t.Errorf("%s: the impostor sees %q", name, info.Reason)
			}
			if l := a.Links(); len(l) != 0 {
				t.Errorf("%s: the acceptor has links: %+v", name, l)
			}
			m.Close()
		}
	})
}

// connectQuietly sets the peers of both without waiting for links.
func connectQuietly(t *testing.T, m *tunneltest.Mesh, a, b *tunneltest.Gateway) {
	t.Helper()
	if err := a.SetPeers([]tunnel.Peer{m.PeerOf(b.Spec.Cluster)}); err != nil {
		t.Fatal(err)
	}
	if err := b.SetPeers([]tunnel.Peer{m.PeerOf(a.Spec.Cluster)}); err != nil {
		t.Fatal(err)
	}
}

// stranger is a QUIC client of the test's own, which may say anything.
type stranger struct {
	t         *testing.T
	transport *quic.Transport
	source    *identity.Source
	to        *tunneltest.Gateway
}

// newStranger has the identity of gateway gw1 of cluster west, to which the mesh's
// gateway to is open.
func newStranger(t *testing.T, m *tunneltest.Mesh, to *tunneltest.Gateway, source *identity.Source) *stranger {
	t.Helper()
	conn := m.Network.Listen(tunneltest.HostPort(200))
	s := &stranger{t: t, transport: &quic.Transport{Conn: conn}, source: source, to: to}
	t.Cleanup(s.close)
	return s
}

func (s *stranger) close() {
	_ = s.transport.Close()
	_ = s.transport.Conn.Close()
}

func (s *stranger) dial(alpn string, change func(*tls.Config)) (*quic.Conn, error) {
	cfg := s.source.ClientTLS([]string{alpn}, identity.AuthorizeAny())
	if change != nil {
		change(cfg)
	}
	return s.transport.Dial(s.t.Context(), tunneltest.UDPAddr(s.to.Addr), cfg, &quic.Config{
		EnableDatagrams: true, EnableStreamResetPartialDelivery: true, KeepAlivePeriod: time.Second, MaxIdleTimeout: time.Minute,
	})
}

// verdictOf waits for the end of a connection; a client's handshake succeeds
// before the server has judged it.
func verdictOf(qc *quic.Conn, err error) error {
	if err != nil {
		return err
	}
	s, err := qc.OpenStream()
	if err == nil {
		_, _ = s.Write([]byte{0}) // or the server has nothing to answer
		_, err = s.Read(make([]byte, 1))
	}
	return err
}

// known is a mesh with one gateway of east that knows gateway west/gw1, and the
// identity of the latter.
func known(t *testing.T, change func(*tunnel.Options)) (*tunneltest.Mesh, *tunneltest.Gateway, *identity.Source) {
	t.Helper()
	m := tunneltest.New(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}})
	a := m.Add(tunneltest.Spec{Cluster: "east", Gateway: "gw1", Handler: tunneltest.Echo(), Options: change})
	west := tunneltest.Spec{Cluster: "west", Gateway: "gw1"}
	if err := a.SetPeers([]tunnel.Peer{{Cluster: "west", ID: west.ClusterID(), Gateways: []tunnel.PeerGateway{{Name: "gw1"}}}}); err != nil {
		t.Fatal(err)
	}
	return m, a, m.CA(tunneltest.DefaultTrustDomain).Source(west.GatewayID())
}

func TestHandshakesOfStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, source := known(t, nil)
		defer m.Close()
		s := newStranger(t, m, a, source)
		defer s.close()
		for name, c := range map[string]struct {
			alpn   string
			change func(*tls.Config)
			alert  uint64
		}{
			"no certificate": {"isthmus/1", func(c *tls.Config) {
				c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
			}, 0},
			"another protocol":    {"h3", nil, 0x78},
			"a protocol of later": {"isthmus/2", nil, 0x78},
		} {
			err := verdictOf(s.dial(c.alpn, c.change))
			e, ok := errors.AsType[*quic.TransportError](err)
			if !ok || !e.Remote || !e.ErrorCode.IsCryptoError() {
				t.Errorf("%s: %v", name, err)
			}
			if c.alert != 0 && ok && uint64(e.ErrorCode) != 0x100+c.alert {
				t.Errorf("%s: alert %v", name, e.ErrorCode)
			}
		}
		if l := a.Links(); len(l) != 0 {
			t.Errorf("links %+v", l)
		}
	})
}

// A resumed session would skip the check of the certificate: there must be none
// to resume, and a revoked peer must not come in by one.
func TestNoSessionIsResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, source := known(t, nil)
		defer m.Close()
		s := newStranger(t, m, a, source)
		defer s.close()
		cache := &countingCache{ClientSessionCache: tls.NewLRUClientSessionCache(8)}
		resume := func(c *tls.Config) {
			c.ClientSessionCache = cache
			c.ServerName = "gateway" // the cache's key
		}
		for range 2 {
			qc, err := s.dial("isthmus/1", resume)
			if err != nil {
				t.Fatal(err)
			}
			hello(t, qc, wire.Hello{MinVersion: 1, MaxVersion: 1, Cluster: "west", Gateway: "gw1", Instance: wire.ID{1}, Link: wire.ID{2}})
			time.Sleep(time.Second) // a ticket would come after the handshake
			if qc.ConnectionState().TLS.DidResume || qc.ConnectionState().Used0RTT {
				t.Error("the session was resumed")
			}
			_ = qc.CloseWithError(0, "")
			a.Wait("link gone", func() bool { return len(a.Links()) == 0 })
		}
		if cache.puts > 0 {
			t.Errorf("the server gave %d tickets", cache.puts)
		}
		if err := a.SetPeers(nil); err != nil {
			t.Fatal(err)
		}
		err := verdictOf(s.dial("isthmus/1", resume))
		if e, ok := errors.AsType[*quic.TransportError](err); !ok || !e.ErrorCode.IsCryptoError() {
			t.Errorf("after the revocation: %v", err)
		}
	})
}

type countingCache struct {
	tls.ClientSessionCache
	puts int
}

func (c *countingCache) Put(key string, s *tls.ClientSessionState) {
	if s != nil {
		c.puts++
	}
	c.ClientSessionCache.Put(key, s)
}

// hello opens the control stream and says h; it returns the stream and what came
// back.
func hello(t *testing.T, qc *quic.Conn, h wire.Hello) (*quic.Stream, *wire.Hello) {
	t.Helper()
	s, err := qc.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	b, err := wire.AppendHello(wire.AppendKind(nil, wire.KindControl), &h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(b); err != nil {
		t.Fatal(err)
	}
	typ, body, err := wire.NewFrameReader(s).Next()
	if err != nil || typ != wire.FrameHello {
		return s, nil
	}
	answer, err := wire.ParseHello(body)
	if err != nil {
		t.Fatal(err)
	}
	return s, &answer
}

func TestPeerThatClaimsAnothersNameIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, source := known(t, nil)
		defer m.Close()
		s := newStranger(t, m, a, source)
		defer s.close()
		good := wire.Hello{MinVersion: 1, MaxVersion: 1, Cluster: "west", Gateway: "gw1", Instance: wire.ID{1}, Link: wire.ID{2}}
		for name, c := range map[string]struct {
			change func(*wire.Hello)
			want   wire.Status
		}{
			"another cluster":                {func(h *wire.Hello) { h.Cluster = "north" }, wire.WrongPeer},
			"the acceptor's own cluster":     {func(h *wire.Hello) { h.Cluster = "east" }, wire.WrongPeer},
			"another gateway":                {func(h *wire.Hello) { h.Gateway = "gw2" }, wire.WrongPeer},
			"a version to come":              {func(h *wire.Hello) { h.MinVersion, h.MaxVersion = 2, 3 }, wire.Version},
			"a connection of no link":        {func(h *wire.Hello) { h.Connection = 1 }, wire.WrongPeer},
			"a number of another protocol":   {func(h *wire.Hello) { h.Connection = 8 }, wire.Protocol},
			"a number to call back, unasked": {func(h *wire.Hello) { h.Connection = 16 }, wire.Protocol},
		} {
			qc, err := s.dial("isthmus/1", nil)
			if err != nil {
				t.Fatal(err)
			}
			h := good
			c.change(&h)
			if _, answer := hello(t, qc, h); answer != nil {
				t.Errorf("%s: answered", name)
			}
			<-qc.Context().Done()
			expectClose(t, name, qc, c.want)
		}
		if l := a.Links(); len(l) != 0 {
			t.Errorf("links %+v", l)
		}
	})
}

func expectClose(t *testing.T, name string, qc *quic.Conn, want wire.Status) {
	t.Helper()
	_, err := qc.AcceptStream(t.Context())
	e, ok := errors.AsType[*quic.ApplicationError](err)
	if !ok || !e.Remote || uint64(e.ErrorCode) != want.Code() {
		t.Errorf("%s: closed with %v, want %s", name, err, want)
	}
}

func TestRemovedPeerIsClosedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, b := pair(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}}, tunneltest.Echo(), tunneltest.Echo())
		defer m.Close()
		s := openIdle(t, a)
		start := time.Now()
		if err := b.SetPeers(nil); err != nil {
			t.Fatal(err)
		}
		for _, l := range b.Links() {
			if l.State != tunnel.StateDown {
				t.Errorf("link is left: %+v", l)
			}
		}
		_, err := s.Read(make([]byte, 1))
		e, ok := errors.AsType[*tunnel.LinkError](err)
		if !ok || e.Status != wire.Revoked {
			t.Errorf("read: %v", err)
		}
		if d := time.Since(start); d != delay {
			t.Errorf("the peer knew after %v", d)
		}
		_ = s.Close()
		time.Sleep(10 * time.Second)
		for _, l := range a.Links() {
			if l.State != tunnel.StateDown || l.Reason != "rejected" {
				t.Errorf("link %+v", l)
			}
		}
	})
}

func TestRemovedBundleClosesLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := tunneltest.New(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}})
		defer m.Close()
		m.CA("a.test")
		other := m.CA("b.test")
		a := m.Add(tunneltest.Spec{Cluster: "east", Gateway: "gw1", TrustDomain: "a.test", Handler: tunneltest.Echo()})
		m.Add(tunneltest.Spec{Cluster: "west", Gateway: "gw1", TrustDomain: "b.test", Handler: tunneltest.Echo()})
		m.Connect()
		s := openIdle(t, a)
		defer s.Close()
		a.Identity.RemovePeerBundle(other.TrustDomain())
		_, err := s.Read(make([]byte, 1))
		if e, ok := errors.AsType[*tunnel.LinkError](err); !ok || e.Status != wire.Revoked {
			t.Errorf("read: %v", err)
		}
		time.Sleep(10 * time.Second)
		for _, l := range a.Links() {
			if l.State != tunnel.StateDown || l.Reason != string(identity.ReasonUnknownTrustDomain) {
				t.Errorf("link %+v", l)
			}
		}
		// A rotated authority that still vouches for the peer cuts nothing.
		if err := a.Identity.SetPeerBundle(other.TrustDomain(), other.BundleJSON(2)); err != nil {
			t.Fatal(err)
		}
		a.Wait("link up", func() bool { return a.Links()[0].State == tunnel.StateUp })
		since := a.Links()[0].Since
		extra := identitytest.NewCA("b.test")
		both := identitytest.BundleJSON(other.TrustDomain(), 3, other.Certificate(), extra.Certificate())
		if err := a.Identity.SetPeerBundle(other.TrustDomain(), both); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if l := a.Links()[0]; !l.Since.Equal(since) {
			t.Errorf("the link was replaced: %+v", l)
		}
	})
}

// A certificate that ends is no reason to cut a stream if there is a successor,
// and every reason if there is none.
func TestLinksAreRenewedBeforeTheirCertificatesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := tunneltest.New(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}})
		defer m.Close()
		ca := m.CA(tunneltest.DefaultTrustDomain)
		end := time.Now().Add(10 * time.Minute)
		spec := tunneltest.Spec{Cluster: "east", Gateway: "gw1", Handler: tunneltest.Echo()}
		spec.Identity = identity.NewStatic(ca.Mint(identitytest.Leaf{URIs: []string{spec.GatewayID().String()}, NotAfter: end}), ca.Bundle())
		a := m.Add(spec)
		b := m.Add(tunneltest.Spec{Cluster: "west", Gateway: "gw1", Handler: tunneltest.Echo()})
		m.Connect()
		first := a.WaitLink(b, tunnel.StateUp)
		s := openIdle(t, a)
		defer s.Close()

		time.Sleep(9 * time.Minute)
		if l := a.WaitLink(b, tunnel.StateUp); l.Since.Equal(first.Since) {
			t.Fatalf("not renewed: %+v", l)
		}
		old := a.WaitLink(b, tunnel.StateDraining)
		if !old.Since.After(first.Since) || old.Reason != wire.Replaced.String() || old.Streams != 1 {
			t.Errorf("old link: %+v", old)
		}
		b.Wait("far end drains it too", func() bool {
			for _, l := range b.Links() {
				if !l.Dialed && l.State == tunnel.StateDraining {
					return true
				}
			}
			return false
		})
		// The stream on the old link is alive, and new ones take the new link.
		if _, err := s.Write([]byte("y")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		fresh := openIdle(t, a)
		defer fresh.Close()

		time.Sleep(time.Until(end) + time.Second)
		for name, s := range map[string]*tunnel.Stream{"old": s, "new": fresh} {
			_, err := s.Read(make([]byte, 1))
			if e, ok := errors.AsType[*tunnel.LinkError](err); !ok || e.Status != wire.Revoked {
				t.Errorf("%s stream after the certificate's end: %v", name, err)
			}
		}
		for _, l := range append(a.Links(), b.Links()...) {
			if l.State == tunnel.StateUp || l.State == tunnel.StateDraining {
				t.Errorf("link outlives the certificate: %+v", l)
			}
		}
	})
}

func TestDrainedOldLinkIsClosedWhenItsLastStreamEnds(t *testing.T) {
	const life = 10 * time.Minute // each simulated minute costs hundreds of probes
	synctest.Test(t, func(t *testing.T) {
		m := tunneltest.New(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}})
		defer m.Close()
		ca := m.CA(tunneltest.DefaultTrustDomain)
		spec := tunneltest.Spec{Cluster: "east", Gateway: "gw1", Handler: tunneltest.Echo()}
		spec.Identity = identity.NewStatic(ca.Mint(identitytest.Leaf{URIs: []string{spec.GatewayID().String()}, NotAfter: time.Now().Add(life)}), ca.Bundle())
		a := m.Add(spec)
		b := m.Add(tunneltest.Spec{Cluster: "west", Gateway: "gw1", Handler: tunneltest.Echo()})
		m.Connect()
		s := openIdle(t, a)
		time.Sleep(life * 51 / 60)
		a.WaitLink(b, tunnel.StateDraining)
		_ = s.Close()
		time.Sleep(3 * time.Second)
		for _, l := range append(a.Links(), b.Links()...) {
			if l.State != tunnel.StateUp {
				t.Errorf("link %+v", l)
			}
		}
	})
}
