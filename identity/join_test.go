package identity_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"testing"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// joinHandshake runs both ends over loopback TCP and returns what each end got.
func joinHandshake(t *testing.T, server, client *tls.Config) (seen tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	done := make(chan error, 1)
	go func() {
		raw, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		conn := tls.Server(raw, server)
		err = conn.Handshake()
		seen = conn.ConnectionState()
		if err == nil {
			_, err = conn.Write([]byte("x"))
		}
		_ = conn.Close()
		done <- err
	}()
	conn, err := tls.Dial("tcp", l.Addr().String(), client)
	if err == nil {
		_, err = conn.Read(make([]byte, 1)) // a refusal of the client comes with the first read
		_ = conn.Close()
	}
	return seen, <-done, err
}

func anchorsOf(t *testing.T, s *identity.Source) []identity.Anchor {
	t.Helper()
	a, err := s.Anchors()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestJoinHandshakes(t *testing.T) {
	east, west, evil := identitytest.NewCA("east.test"), identitytest.NewCA("west.test"), identitytest.NewCA("east.test")
	id := east.ID("/isthmus/cluster/east")
	server := east.Source(id, east.Bundle())
	client := west.Source(west.ID("/isthmus/cluster/west"), west.Bundle())
	open := true
	listener := server.WithJoin(server.ServerTLS([]string{"h2"}, identity.AuthorizeIDs()), func() bool { return open })
	anchors := anchorsOf(t, server)
	exact := identity.AuthorizeIDs(id)
	rooted := east.Intermediate("east.test").Source(id, east.Bundle())

	t.Run("pinned, with a certificate", func(t *testing.T) {
		seen, serverErr, clientErr := joinHandshake(t, listener, client.JoinClientTLS(anchors, exact, true))
		if serverErr != nil || clientErr != nil || len(seen.PeerCertificates) == 0 || seen.NegotiatedProtocol != identity.JoinALPN {
			t.Errorf("server %v, client %v, %d certificates of %q", serverErr, clientErr, len(seen.PeerCertificates), seen.NegotiatedProtocol)
		}
	})
	t.Run("without a certificate", func(t *testing.T) {
		seen, serverErr, clientErr := joinHandshake(t, listener, client.JoinClientTLS(anchors, exact, false))
		if serverErr != nil || clientErr != nil || len(seen.PeerCertificates) != 0 {
			t.Errorf("server %v, client %v, %d certificates", serverErr, clientErr, len(seen.PeerCertificates))
		}
	})
	t.Run("behind an intermediate", func(t *testing.T) {
		l := rooted.WithJoin(rooted.ServerTLS([]string{"h2"}, identity.AuthorizeIDs()), func() bool { return true })
		if _, serverErr, clientErr := joinHandshake(t, l, client.JoinClientTLS(anchorsOf(t, rooted), exact, true)); serverErr != nil || clientErr != nil {
			t.Errorf("server %v, client %v", serverErr, clientErr)
		}
	})
	for name, c := range map[string]struct {
		client *tls.Config
		want   identity.Reason
	}{
		"another anchor":  {client.JoinClientTLS(anchorsOf(t, evil.Source(id, evil.Bundle())), exact, true), identity.ReasonUnknownTrustDomain},
		"no anchor":       {client.JoinClientTLS(nil, exact, true), identity.ReasonUnknownTrustDomain},
		"another id":      {client.JoinClientTLS(anchors, identity.AuthorizeIDs(east.ID("/isthmus/cluster/other")), true), identity.ReasonUnauthorized},
		"no authorizer":   {client.JoinClientTLS(anchors, nil, true), identity.ReasonUnauthorized},
		"a gateway's pin": {client.JoinClientTLS(anchors, identity.AuthorizeFunc(func(spiffeid.ID) bool { return false }), true), identity.ReasonUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := joinHandshake(t, listener, c.client)
			if pe, ok := errors.AsType[*identity.PeerError](err); !ok || pe.Reason != c.want {
				t.Errorf("client %v, want %s", err, c.want)
			}
		})
	}
	t.Run("the ordinary protocol stays closed to strangers", func(t *testing.T) {
		_, serverErr, _ := joinHandshake(t, listener, client.ClientTLS([]string{"h2"}, identity.AuthorizeAny()))
		if serverErr == nil {
			t.Error("a stranger was admitted")
		}
	})
	t.Run("both protocols at once are not one for joining", func(t *testing.T) {
		config := client.JoinClientTLS(anchors, exact, true)
		config.NextProtos = []string{identity.JoinALPN, "h2"}
		if _, serverErr, _ := joinHandshake(t, listener, config); serverErr == nil {
			t.Error("admitted")
		}
	})
	t.Run("closed", func(t *testing.T) {
		open = false
		defer func() { open = true }()
		if _, serverErr, clientErr := joinHandshake(t, listener, client.JoinClientTLS(anchors, exact, true)); serverErr == nil || clientErr == nil {
			t.Errorf("server %v, client %v", serverErr, clientErr)
		}
	})
}

func TestVerifyOffered(t *testing.T) {
	east, west, twin := identitytest.NewCA("east.test"), identitytest.NewCA("west.test"), identitytest.NewCA("west.test")
	s := east.Source(east.ID("/a"), east.Bundle())
	leaf := west.SVID(west.ID("/b")).Certificates
	westAnchor := anchorsOf(t, west.Source(west.ID("/b"), west.Bundle()))
	for name, c := range map[string]struct {
		certs    []*x509.Certificate
		document []byte
		anchors  []identity.Anchor
		ok       bool
	}{
		"its own bundle":    {leaf, west.BundleJSON(1), nil, true},
		"and its anchor":    {leaf, west.BundleJSON(1), westAnchor, true},
		"another anchor":    {leaf, west.BundleJSON(1), anchorsOf(t, s), false},
		"another authority": {leaf, twin.BundleJSON(1), nil, false},
		"no bundle":         {leaf, nil, nil, false},
		"an empty one":      {leaf, []byte(`{"keys":[]}`), nil, false},
		"no certificate":    {nil, west.BundleJSON(1), nil, false},
		"an expired leaf":   {west.Expired(west.ID("/b")).Certificates, west.BundleJSON(1), nil, false},
		"two ids":           {west.TwoURIs(west.ID("/b"), west.ID("/c")).Certificates, west.BundleJSON(1), nil, false},
		"a ca as leaf":      {west.CAAsLeaf(west.ID("/b")).Certificates, west.BundleJSON(1), nil, false},
		"the own domain, a stranger's authority": {
			identitytest.NewCA("east.test").SVID(east.ID("/b")).Certificates, east.BundleJSON(9), nil, false,
		},
	} {
		id, held, err := s.VerifyOffered(c.certs, c.document, c.anchors...)
		if (err == nil) != c.ok || c.ok && (held || id != west.ID("/b")) {
			t.Errorf("%s: %v, held %v, %v", name, id, held, err)
		}
	}
	// Once a bundle is held, it is the one that counts.
	if err := s.SetPeerBundle(west.TrustDomain(), west.BundleJSON(1)); err != nil {
		t.Fatal(err)
	}
	if id, held, err := s.VerifyOffered(leaf, nil); err != nil || !held || id != west.ID("/b") {
		t.Errorf("held: %v, %v, %v", id, held, err)
	}
	if _, held, err := s.VerifyOffered(twin.SVID(west.ID("/b")).Certificates, twin.BundleJSON(2)); err == nil || !held {
		t.Errorf("another authority of a held domain: held %v, %v", held, err)
	}
}
