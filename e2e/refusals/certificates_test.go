package refusals_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
)

// presenting is a client that shows an SVID and asks for nothing in return.
func presenting(svid *x509svid.SVID, alpn ...string) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: alpn, InsecureSkipVerify: true} //nolint:gosec // the attacker does not care who answers
	if svid != nil {
		cert := tls.Certificate{PrivateKey: svid.PrivateKey}
		for _, der := range svid.Certificates {
			cert.Certificate = append(cert.Certificate, der.Raw)
		}
		// Shown whatever the server says it accepts.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	return c
}

// takenQUIC reports whether a link's server took the client for who it says it is.
func takenQUIC(t *testing.T, address string, c *tls.Config) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := quic.DialAddr(ctx, address, c, nil)
	if err != nil {
		return false
	}
	defer func() { _ = conn.CloseWithError(0, "") }()
	// One who is accepted is waited for until its hello is overdue: an application's
	// end, where a stranger gets a TLS alert. Neither depends on how fast that is.
	select {
	case <-conn.Context().Done():
	case <-ctx.Done():
		t.Fatal("the connection was neither refused nor given up")
	}
	_, accepted := errors.AsType[*quic.ApplicationError](context.Cause(conn.Context()))
	return accepted
}

// answersTLS reports whether a TLS server took the client: it reads its request.
func answersTLS(address string, c *tls.Config) bool {
	conn, err := (&tls.Dialer{Config: c}).Dial("tcp", address)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	n, _ := conn.Read(make([]byte, 1))
	return n > 0
}

// defects are certificates that must not be taken for id, whose cluster's CA is ca; they
// are all signed as well as the defect lets them be.
func defects(ca, other *identitytest.CA, id spiffeid.ID) map[string]*x509svid.SVID {
	s := id.String()
	mint := func(l identitytest.Leaf) *x509svid.SVID { return ca.Mint(l) }
	stranger := identitytest.NewCA(ca.TrustDomain().Name())
	good := ca.SVID(id)
	noLeafKey := ca.SVID(id)
	noLeafKey.Certificates = append(noLeafKey.Certificates, other.Certificate())
	out := map[string]*x509svid.SVID{
		"none":                           nil,
		"expired":                        ca.Expired(id),
		"not yet valid":                  ca.NotYetValid(id),
		"expired a second ago":           mint(identitytest.Leaf{URIs: []string{s}, NotAfter: time.Now().Add(-time.Second)}),
		"valid in an hour":               mint(identitytest.Leaf{URIs: []string{s}, NotBefore: time.Now().Add(time.Hour)}),
		"two uri sans":                   ca.TwoURIs(id, ca.ID("/other")),
		"two uri sans, reversed":         ca.TwoURIs(ca.ID("/other"), id),
		"the same uri san twice":         ca.TwoURIs(id, id),
		"no san":                         ca.NoSAN(),
		"a ca as a leaf":                 ca.CAAsLeaf(id),
		"key cert sign":                  mint(identitytest.Leaf{URIs: []string{s}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}),
		"crl sign":                       mint(identitytest.Leaf{URIs: []string{s}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign}),
		"no digital signature":           mint(identitytest.Leaf{URIs: []string{s}, KeyUsage: x509.KeyUsageKeyEncipherment}),
		"a trust domain alone":           mint(identitytest.Leaf{URIs: []string{"spiffe://" + ca.TrustDomain().Name()}}),
		"a final slash":                  mint(identitytest.Leaf{URIs: []string{s + "/"}}),
		"a trust domain in capitals":     mint(identitytest.Leaf{URIs: []string{"spiffe://ALPHA.test" + id.Path()}}),
		"another scheme":                 mint(identitytest.Leaf{URIs: []string{"https://" + ca.TrustDomain().Name() + id.Path()}}),
		"a query":                        mint(identitytest.Leaf{URIs: []string{s + "?x=1"}}),
		"a fragment":                     mint(identitytest.Leaf{URIs: []string{s + "#x"}}),
		"a port":                         mint(identitytest.Leaf{URIs: []string{"spiffe://" + ca.TrustDomain().Name() + ":443" + id.Path()}}),
		"user info":                      mint(identitytest.Leaf{URIs: []string{"spiffe://x@" + ca.TrustDomain().Name() + id.Path()}}),
		"dot segments":                   mint(identitytest.Leaf{URIs: []string{"spiffe://" + ca.TrustDomain().Name() + "/x/.." + id.Path()}}),
		"an escape":                      mint(identitytest.Leaf{URIs: []string{"spiffe://" + ca.TrustDomain().Name() + "/%69sthmus" + id.Path()[len("/isthmus"):]}}),
		"longer than 2048 bytes":         mint(identitytest.Leaf{URIs: []string{s + fmt.Sprintf("%02100d", 0)}}),
		"another domain's ca":            other.SVID(id),
		"a stranger's ca of that name":   stranger.SVID(id),
		"an intermediate of another":     ca.Intermediate(other.TrustDomain().Name()).SVID(id),
		"an unknown trust domain":        identitytest.NewCA("evil.test").SVID(spiffeid.RequireFromString("spiffe://evil.test" + id.Path())),
		"a workload":                     ca.SVID(ca.ID("/workload")),
		"another cluster of that domain": ca.SVID(ca.ID("/isthmus/cluster/other/gateway/gw1")),
	}
	stolen := ca.SVID(ca.ID("/workload"))
	out["another's certificate without its key"] = &x509svid.SVID{Certificates: good.Certificates, PrivateKey: stolen.PrivateKey}
	return out
}

// TestCertificatesAreRefused: on the link port and on the control port no certificate
// with a defect is taken for the gateway or the federation whose name it bears.
func TestCertificatesAreRefused(t *testing.T) {
	p := newPair(t)
	link, control := p.link["beta"].String(), p.beta.Addrs().Control.String()
	gw := spiffeid.RequireFromString(clusterID("alpha") + "/gateway/gw9")
	if !takenQUIC(t, link, presenting(p.cas["alpha"].SVID(gw), "isthmus/1")) {
		t.Fatal("the real gateway is refused")
	}
	own := spiffeid.RequireFromString(clusterID("beta"))
	if !answersTLS(control, presenting(p.cas["beta"].SVID(own), "http/1.1")) {
		t.Fatal("the real federation is refused")
	}
	more := defects(p.cas["alpha"], p.cas["gamma"], gw)
	more["the federation"] = p.cas["alpha"].SVID(spiffeid.RequireFromString(clusterID("alpha")))
	more["a gateway of the target's own cluster"] = p.cas["beta"].SVID(spiffeid.RequireFromString(clusterID("beta") + "/gateway/gw9"))
	more["below a gateway"] = p.cas["alpha"].SVID(spiffeid.RequireFromString(gw.String() + "/x"))
	more["a gateway's name in capitals"] = p.cas["alpha"].SVID(spiffeid.RequireFromString(clusterID("alpha") + "/gateway/GW9"))
	more["another cluster's name in the own domain"] = p.cas["alpha"].SVID(p.cas["alpha"].ID("/isthmus/cluster/gamma/gateway/gw1"))
	for name, svid := range more {
		refuse(t, "certificates, link", "link/"+name, func(t *testing.T) {
			t.Parallel()
			if takenQUIC(t, link, presenting(svid, "isthmus/1")) {
				t.Error("the connection was accepted")
			}
		})
	}
	atControl := defects(p.cas["beta"], p.cas["alpha"], own)
	atControl["a gateway of the cluster"] = p.cas["beta"].SVID(spiffeid.RequireFromString(clusterID("beta") + "/gateway/gw1"))
	atControl["a peer's federation"] = p.cas["alpha"].SVID(spiffeid.RequireFromString(clusterID("alpha")))
	for name, svid := range atControl {
		refuse(t, "certificates, control", "control/"+name, func(t *testing.T) {
			if answersTLS(control, presenting(svid, "http/1.1")) {
				t.Error("the request was answered")
			}
		})
	}
	svid := p.cas["alpha"].SVID(gw)
	for name, change := range map[string]func(*tls.Config){
		"tls 1.2":              func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 },
		"no protocol name":     func(c *tls.Config) { c.NextProtos = nil },
		"another protocol":     func(c *tls.Config) { c.NextProtos = []string{"h3"} },
		"a newer protocol":     func(c *tls.Config) { c.NextProtos = []string{"isthmus/2"} },
		"the protocol's start": func(c *tls.Config) { c.NextProtos = []string{"isthmus"} },
	} {
		refuse(t, "tls", name, func(t *testing.T) {
			t.Parallel()
			c := presenting(svid, "isthmus/1")
			change(c)
			if takenQUIC(t, link, c) {
				t.Error("the connection was accepted")
			}
		})
	}
	refuse(t, "tls", "a session that was resumed", func(t *testing.T) {
		c := presenting(svid, "isthmus/1")
		c.ClientSessionCache, c.ServerName = tls.NewLRUClientSessionCache(8), "beta"
		for range 2 {
			conn, err := quic.DialAddr(t.Context(), link, c, nil)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond) // a ticket would come now
			if conn.ConnectionState().TLS.DidResume {
				t.Error("a session was resumed")
			}
			_ = conn.CloseWithError(0, "")
		}
	})
	refuse(t, "tls", "early data", func(t *testing.T) {
		c := presenting(svid, "isthmus/1")
		c.ClientSessionCache, c.ServerName = tls.NewLRUClientSessionCache(8), "beta"
		for range 2 {
			conn, err := quic.DialAddrEarly(t.Context(), link, c, nil)
			if err != nil {
				t.Fatal(err)
			}
			<-conn.HandshakeComplete()
			if conn.ConnectionState().Used0RTT {
				t.Error("early data was taken")
			}
			time.Sleep(100 * time.Millisecond)
			_ = conn.CloseWithError(0, "")
		}
	})
	stand.Figure(t, "refused: %d certificates at the link port, %d at the control port", len(more), len(atControl))
}
