package identity_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
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
	long := "spiffe://a.test/" + strings.Repeat("x", 2048)
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

// Every refusal of a handshake over real TCP: the typed reason on the side that
// refuses, its count, and its line in the log.
func TestHandshakeRefusalsAreTypedCountedAndLogged(t *testing.T) {
	a, b := identitytest.NewCA("a.test"), identitytest.NewCA("b.test")
	gw := a.ID("/gw")
	static := func(svid *x509svid.SVID) *identity.Source { return identity.NewStatic(svid, a.Bundle(), b.Bundle()) }
	good := a.Source(a.ID("/client"), b.Bundle())
	ours := []string{alpn}
	allow := identity.AuthorizeIDs(good.ID(), gw, b.ID("/client"))
	raw := func(change func(*tls.Config)) *tls.Config {
		cfg := good.ClientTLS(ours, identity.AuthorizeAny())
		change(cfg)
		return cfg
	}
	tests := []struct {
		name   string
		client *tls.Config
		want   identity.Reason
		silent bool // crypto/tls itself ends it: counted, but its own error
	}{
		{"good", good.ClientTLS(ours, identity.AuthorizeIDs(gw)), "", false},
		{"good of another domain", static(b.SVID(b.ID("/client"))).ClientTLS(ours, identity.AuthorizeIDs(gw)), "", false},
		{"no certificate", raw(func(c *tls.Config) { c.GetClientCertificate = nil }), identity.ReasonNoCertificate, false},
		{"not allowed", static(a.SVID(a.ID("/stranger"))).ClientTLS(ours, identity.AuthorizeAny()), identity.ReasonUnauthorized, false},
		{"allowed id of b minted by a", withCert(good, a.SVID(b.ID("/client"))), identity.ReasonUntrustedChain, false},
		{"unknown domain", withCert(good, identitytest.NewCA("c.test").SVID(spiffeid.RequireFromString("spiffe://c.test/client"))), identity.ReasonUnknownTrustDomain, false},
		{"expired", withCert(good, a.Expired(good.ID())), identity.ReasonExpired, false},
		{"not yet valid", withCert(good, a.NotYetValid(good.ID())), identity.ReasonNotYetValid, false},
		{"two uri sans", withCert(good, a.TwoURIs(good.ID(), gw)), identity.ReasonMalformedID, false},
		{"no san", withCert(good, a.NoSAN()), identity.ReasonMalformedID, false},
		{"ca as leaf", withCert(good, a.CAAsLeaf(good.ID())), identity.ReasonNotLeaf, false},
		{"no alpn", raw(func(c *tls.Config) { c.NextProtos, c.VerifyConnection = nil, nil }), identity.ReasonALPN, false},
		{"another alpn", good.ClientTLS([]string{"isthmus/2"}, identity.AuthorizeAny()), identity.ReasonALPN, true},
		{"alpn in another case", good.ClientTLS([]string{"Isthmus/1"}, identity.AuthorizeAny()), identity.ReasonALPN, true},
		{"tls 1.2", raw(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }), identity.ReasonTLSVersion, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := identitytest.NewWorkloadAPI(t, identitytest.Answer{SVIDs: []*x509svid.SVID{a.SVID(gw)}, Bundles: bundles(a.Bundle(), b.Bundle())})
			reg, log := prometheus.NewRegistry(), &logBuffer{}
			server := run(t, identity.Options{WorkloadAPI: w.Address(), ID: gw, Registerer: reg, Log: log.logger()})
			waitReady(t, server)
			c, s := tcpPair(t)
			cerr, serr := handshake(t, tt.client, server.ServerTLS(ours, allow), c, s)
			if tt.want == "" {
				if cerr != nil || serr != nil {
					t.Fatalf("client %v, server %v", cerr, serr)
				}
				return
			}
			if cerr == nil || serr == nil {
				t.Fatalf("client %v, server %v", cerr, serr)
			}
			if got := reason(serr); !tt.silent && got != tt.want || tt.silent && got != "" {
				t.Errorf("reason %q, want %q (%v)", got, tt.want, serr)
			}
			if got := counter(t, reg, "isthmus_identity_refused_total", "reason", string(tt.want)); got != 1 {
				t.Errorf("counted %v times", got)
			}
			if !strings.Contains(log.String(), `"msg":"handshake refused","reason":"`+string(tt.want)+`"`) {
				t.Errorf("log: %s", log)
			}
		})
	}
}

// withCert is a client that presents what a Source never would.
func withCert(src *identity.Source, svid *x509svid.SVID) *tls.Config {
	cfg := src.ClientTLS([]string{alpn}, identity.AuthorizeAny())
	cert := &tls.Certificate{PrivateKey: svid.PrivateKey}
	for _, c := range svid.Certificates {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	return cfg
}

func TestClientRefusesTheServer(t *testing.T) {
	a, b := identitytest.NewCA("a.test"), identitytest.NewCA("b.test")
	client := a.Source(a.ID("/client"))
	server := func(svid *x509svid.SVID) *tls.Config {
		return identity.NewStatic(svid, a.Bundle()).ServerTLS([]string{alpn}, identity.AuthorizeAny())
	}
	plain := server(a.SVID(a.ID("/gw")))
	plain.NextProtos = nil // negotiates none
	tests := []struct {
		name   string
		server *tls.Config
		auth   identity.Authorizer
		want   identity.Reason
	}{
		{"another id", server(a.SVID(a.ID("/other"))), identity.AuthorizeIDs(a.ID("/gw")), identity.ReasonUnauthorized},
		{"no authorizer", server(a.SVID(a.ID("/gw"))), nil, identity.ReasonUnauthorized},
		{"unknown domain", server(b.SVID(b.ID("/gw"))), identity.AuthorizeAny(), identity.ReasonUnknownTrustDomain},
		{"wrong ca", server(b.SVID(a.ID("/gw"))), identity.AuthorizeAny(), identity.ReasonUntrustedChain},
		{"no protocol negotiated", plain, identity.AuthorizeAny(), identity.ReasonALPN},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, s := tcpPair(t)
			cerr, serr := handshake(t, client.ClientTLS([]string{alpn}, tt.auth), tt.server, c, s)
			if reason(cerr) != tt.want || serr == nil {
				t.Fatalf("client %v, server %v, want %s", cerr, serr, tt.want)
			}
			pe, _ := errors.AsType[*identity.PeerError](cerr)
			if want := tt.want != identity.ReasonALPN; want == pe.ID.IsZero() {
				t.Errorf("id is %q", pe.ID)
			}
		})
	}
}

func TestStaticExpiresUnderFakeClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := identitytest.NewCA("a.test")
		mortal := ca.Mint(identitytest.Leaf{URIs: []string{ca.ID("/gw").String()}, NotAfter: time.Now().Add(time.Hour)})
		gw, fed := identity.NewStatic(mortal, ca.Bundle()), ca.Source(ca.ID("/fed"))
		try := func() (cerr, serr error) {
			c, s := net.Pipe()
			return handshake(t, gw.ClientTLS([]string{alpn}, identity.AuthorizeAny()), fed.ServerTLS([]string{alpn}, identity.AuthorizeAny()), c, s)
		}
		if cerr, serr := try(); cerr != nil || serr != nil {
			t.Fatalf("client: %v, server: %v", cerr, serr)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour+time.Second)
		defer cancel()
		if err := gw.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if cerr, _ := try(); reason(cerr) != identity.ReasonOwnSVIDExpired {
			t.Fatalf("got %v", cerr)
		}
		if _, err := fed.VerifyPeer(mortal.Certificates); reason(err) != identity.ReasonExpired {
			t.Fatalf("a sweep takes an expired peer: %v", err)
		}
	})
}

// An expired SVID ends the handshake also where the server never asks who we are.
func TestExpiredClientIsToldByItself(t *testing.T) {
	ca := identitytest.NewCA("a.test")
	expired := identity.NewStatic(ca.Expired(ca.ID("/gw")), ca.Bundle())
	incurious := ca.Source(ca.ID("/fed")).ServerTLS([]string{alpn}, identity.AuthorizeAny())
	incurious.ClientAuth, incurious.VerifyConnection = tls.NoClientCert, nil
	c, s := tcpPair(t)
	cerr, _ := handshake(t, expired.ClientTLS([]string{alpn}, identity.AuthorizeAny()), incurious, c, s)
	if reason(cerr) != identity.ReasonOwnSVIDExpired {
		t.Fatalf("got %v", cerr)
	}
}

func TestPeerID(t *testing.T) {
	ca := identitytest.NewCA("a.test")
	id, err := identity.PeerID(tls.ConnectionState{PeerCertificates: ca.SVID(ca.ID("/gw")).Certificates})
	if err != nil || id != ca.ID("/gw") {
		t.Fatalf("got %s, %v", id, err)
	}
	if _, err := identity.PeerID(tls.ConnectionState{}); reason(err) != identity.ReasonNoCertificate {
		t.Fatalf("got %v", err)
	}
	if _, err := identity.PeerID(tls.ConnectionState{PeerCertificates: ca.NoSAN().Certificates}); reason(err) != identity.ReasonMalformedID {
		t.Fatalf("got %v", err)
	}
}

// Strangers can make us count, but not write without bound.
func TestRefusalsAreLoggedAtABoundedRate(t *testing.T) {
	ca := identitytest.NewCA("a.test")
	w := identitytest.NewWorkloadAPI(t, identitytest.Answer{SVIDs: []*x509svid.SVID{ca.SVID(ca.ID("/gw"))}, Bundles: bundles(ca.Bundle())})
	clock := time.Now()
	reg, log := prometheus.NewRegistry(), &logBuffer{}
	src := run(t, identity.Options{WorkloadAPI: w.Address(), Registerer: reg, Log: log.logger(), Now: func() time.Time { return clock }})
	waitReady(t, src)
	verify := src.ServerTLS([]string{alpn}, nil).VerifyConnection
	for range 1000 {
		if verify(tls.ConnectionState{Version: tls.VersionTLS13, NegotiatedProtocol: alpn}) == nil {
			t.Fatal("a peer without a certificate was let in")
		}
	}
	if n := strings.Count(log.String(), "handshake refused"); n != 50 {
		t.Errorf("%d lines for 1000 refusals", n)
	}
	if got := counter(t, reg, "isthmus_identity_refused_total", "reason", "no_certificate"); got != 1000 {
		t.Errorf("counted %v", got)
	}
}

func certificates(c ...*x509.Certificate) []*x509.Certificate { return c }

// FuzzVerifyPeer looks for a certificate that is taken although its leaf claims an
// ID which is not canonical, or makes verification panic.
func FuzzVerifyPeer(f *testing.F) {
	ca := identitytest.NewCA("a.test")
	src := ca.Source(ca.ID("/verifier"))
	for _, uri := range []string{"spiffe://a.test/gw", "SPIFFE://a.test/gw", "spiffe://a.test/gw#", "spiffe://a.test/%2e", "spiffe://a.test//", "spiffe://b.test/gw", ""} {
		f.Add(uri)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		leaf, err := ca.TryMint(identitytest.Leaf{URIs: []string{uri}})
		if err != nil {
			t.Skip() // x509 cannot even parse it
		}
		id, err := src.VerifyPeer(leaf.Certificates)
		if err == nil && (id.String() != uri || id.TrustDomain() != ca.TrustDomain() || id.Path() == "") {
			t.Fatalf("%q was taken as %s", uri, id)
		}
	})
}
