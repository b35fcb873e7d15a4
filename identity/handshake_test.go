package identity_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const alpn = "isthmus/1"

// handshake runs a TLS handshake over the two ends and returns what each said.
func handshake(t *testing.T, client, server *tls.Config, c, s net.Conn) (clientErr, serverErr error) {
	t.Helper()
	done := make(chan error, 1)
	srv := tls.Server(s, server)
	go func() {
		err := srv.Handshake()
		if err == nil {
			// TLS 1.3 clients finish before they know the server's verdict: the
			// first read brings it.
			_, err = srv.Write([]byte{1})
		}
		done <- err
		if err != nil {
			_ = srv.Close()
		}
	}()
	cli := tls.Client(c, client)
	clientErr = cli.Handshake()
	if clientErr == nil {
		_, clientErr = cli.Read(make([]byte, 1))
	}
	if clientErr != nil {
		_ = cli.Close()
	}
	serverErr = <-done
	_ = c.Close()
	_ = s.Close()
	return clientErr, serverErr
}

// tcpPair is a pair of connected loopback TCP connections.
func tcpPair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			close(accepted)
			return
		}
		accepted <- conn
	}()
	client, err = (&net.Dialer{Timeout: 5 * time.Second}).DialContext(context.Background(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, ok := <-accepted
	if !ok {
		t.Fatal("accept failed")
	}
	deadline := time.Now().Add(10 * time.Second)
	_ = client.SetDeadline(deadline)
	_ = server.SetDeadline(deadline)
	return client, server
}

func reason(err error) identity.Reason {
	if pe, ok := errors.AsType[*identity.PeerError](err); ok {
		return pe.Reason
	}
	return ""
}

func TestHandshakeUnderFakeClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := identitytest.NewCA("a.test")
		gw, fed := ca.Source(ca.ID("/gw")), ca.Source(ca.ID("/fed"))
		c, s := net.Pipe()
		cerr, serr := handshake(t,
			gw.ClientTLS([]string{alpn}, identity.AuthorizeIDs(fed.ID())),
			fed.ServerTLS([]string{alpn}, identity.AuthorizeIDs(gw.ID())), c, s)
		if cerr != nil || serr != nil {
			t.Fatalf("client: %v, server: %v", cerr, serr)
		}
	})
}

func TestVerifyPeerNegativeCases(t *testing.T) {
	a, b := identitytest.NewCA("a.test"), identitytest.NewCA("b.test")
	src := a.Source(a.ID("/verifier"), b.Bundle())
	id := a.ID("/gw")
	raw := func(uri string) []*x509.Certificate {
		return a.Mint(identitytest.Leaf{URIs: []string{uri}}).Certificates
	}
	long := "spiffe://a.test/" + string(make([]byte, 0))
	for range 2048 {
		long += "x"
	}
	tests := []struct {
		name  string
		certs []*x509.Certificate
		want  identity.Reason
	}{
		{"good", a.SVID(id).Certificates, ""},
		{"good of a federated domain", b.SVID(b.ID("/gw")).Certificates, ""},
		{"good through an intermediate", a.Intermediate("a.test").SVID(id).Certificates, ""},
		{"none", nil, identity.ReasonNoCertificate},
		{"expired", a.Expired(id).Certificates, identity.ReasonExpired},
		{"not yet valid", a.NotYetValid(id).Certificates, identity.ReasonNotYetValid},
		{"two uri sans", a.TwoURIs(id, a.ID("/other")).Certificates, identity.ReasonMalformedID},
		{"no san", a.NoSAN().Certificates, identity.ReasonMalformedID},
		{"ca as leaf", a.CAAsLeaf(id).Certificates, identity.ReasonNotLeaf},
		{"keyCertSign without ca", a.Mint(identitytest.Leaf{URIs: []string{id.String()}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}).Certificates, identity.ReasonNotLeaf},
		{"cRLSign", a.Mint(identitytest.Leaf{URIs: []string{id.String()}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign}).Certificates, identity.ReasonNotLeaf},
		{"no digitalSignature", a.Mint(identitytest.Leaf{URIs: []string{id.String()}, KeyUsage: x509.KeyUsageKeyEncipherment}).Certificates, identity.ReasonNotLeaf},
		{"extended usage of something else", a.Mint(identitytest.Leaf{URIs: []string{id.String()}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}).Certificates, identity.ReasonNotLeaf},
		{"the root itself", []*x509.Certificate{a.Certificate()}, identity.ReasonMalformedID},
		{"unknown trust domain", identitytest.NewCA("c.test").SVID(spiffeid.RequireFromString("spiffe://c.test/gw")).Certificates, identity.ReasonUnknownTrustDomain},
		{"domain b's ca mints an id of domain a", b.SVID(id).Certificates, identity.ReasonUntrustedChain},
		{"domain a's ca mints an id of domain b", a.SVID(b.ID("/gw")).Certificates, identity.ReasonUntrustedChain},
		{"another ca of the same name", identitytest.NewCA("a.test").SVID(id).Certificates, identity.ReasonUntrustedChain},
		{"intermediate signed by b, id of a", b.Intermediate("a.test").SVID(id).Certificates, identity.ReasonUntrustedChain},
		{"intermediate of b below a's root, id of a", a.Intermediate("b.test").SVID(id).Certificates, identity.ReasonUntrustedChain},
		{"intermediate missing", a.Intermediate("a.test").SVID(id).Certificates[:1], identity.ReasonUntrustedChain},
		{"chain too long", append(a.SVID(id).Certificates, repeat(a.Certificate(), 8)...), identity.ReasonUntrustedChain},
		{"trust domain only", raw("spiffe://a.test"), identity.ReasonMalformedID},
		{"root path", raw("spiffe://a.test/"), identity.ReasonMalformedID},
		{"upper case scheme", raw("SPIFFE://a.test/gw"), identity.ReasonMalformedID},
		{"upper case trust domain", raw("spiffe://A.test/gw"), identity.ReasonMalformedID},
		{"https", raw("https://a.test/gw"), identity.ReasonMalformedID},
		{"dot segment", raw("spiffe://a.test/x/../gw"), identity.ReasonMalformedID},
		{"empty segment", raw("spiffe://a.test//gw"), identity.ReasonMalformedID},
		{"trailing slash", raw("spiffe://a.test/gw/"), identity.ReasonMalformedID},
		{"percent encoding", raw("spiffe://a.test/g%77"), identity.ReasonMalformedID},
		{"query", raw("spiffe://a.test/gw?x"), identity.ReasonMalformedID},
		{"empty query", raw("spiffe://a.test/gw?"), identity.ReasonMalformedID},
		{"fragment", raw("spiffe://a.test/gw#x"), identity.ReasonMalformedID},
		{"empty fragment", raw("spiffe://a.test/gw#"), identity.ReasonMalformedID},
		{"port", raw("spiffe://a.test:443/gw"), identity.ReasonMalformedID},
		{"user", raw("spiffe://u@a.test/gw"), identity.ReasonMalformedID},
		{"longer than 2048 bytes", raw(long), identity.ReasonMalformedID},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := src.VerifyPeer(tt.certs)
			if r := reason(err); r != tt.want || (err == nil) != (tt.want == "") {
				t.Fatalf("reason %q (%v), want %q", r, err, tt.want)
			}
			if err == nil && got.IsZero() {
				t.Fatal("verified without an id")
			}
		})
	}
}

func repeat(c *x509.Certificate, n int) []*x509.Certificate {
	out := make([]*x509.Certificate, n)
	for i := range out {
		out[i] = c
	}
	return out
}

func TestHandshakeOverTCP(t *testing.T) {
	ca := identitytest.NewCA("a.test")
	gw, fed := ca.Source(ca.ID("/gw")), ca.Source(ca.ID("/fed"))
	c, s := tcpPair(t)
	cerr, serr := handshake(t, gw.ClientTLS([]string{alpn}, identity.AuthorizeIDs(fed.ID())),
		fed.ServerTLS([]string{alpn}, identity.AuthorizeIDs()), c, s)
	if reason(serr) != identity.ReasonUnauthorized || cerr == nil {
		t.Fatalf("client: %v, server: %v", cerr, serr)
	}
}
