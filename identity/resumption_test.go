package identity_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
)

var errDenied = errors.New("denied by the test")

// spiffeClient is a client of any make: it keeps session tickets.
func spiffeClient(ca *identitytest.CA, path string, trust *x509bundle.Bundle) *tls.Config {
	cfg := tlsconfig.MTLSClientConfig(ca.SVID(ca.ID(path)), trust, tlsconfig.AuthorizeAny())
	cfg.NextProtos = []string{alpn}
	cfg.MinVersion = tls.VersionTLS13
	cfg.ServerName = "server.test" // the key of the session cache; else it is the address
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	return cfg
}

// The bypass exists: with go-spiffe's own server configuration, a client that kept
// a ticket is served after it was denied, and the authorizer is not even asked. If
// this test fails, the library has changed and the others can be simplified.
func TestResumptionBypassExistsInPlainGoSPIFFE(t *testing.T) {
	ca := identitytest.NewCA("a.test")
	var denied atomic.Bool
	var asked atomic.Int32
	server := tlsconfig.MTLSServerConfig(ca.SVID(ca.ID("/server")), ca.Bundle(), func(spiffeid.ID, [][]*x509.Certificate) error {
		asked.Add(1)
		if denied.Load() {
			return errDenied
		}
		return nil
	})
	server.NextProtos = []string{alpn}
	addr := quicServer(t, server)
	client := spiffeClient(ca, "/gw", ca.Bundle())
	quicResumable(t, addr, client)

	denied.Store(true)
	asked.Store(0)
	resumed, err := quicDial(t, addr, client)
	if err != nil || !resumed || asked.Load() != 0 {
		t.Fatalf("error %v, resumed %v, authorizer asked %d times; want a served resumption with no question", err, resumed, asked.Load())
	}
	fresh := spiffeClient(ca, "/gw", ca.Bundle())
	if _, err := quicDial(t, addr, fresh); err == nil {
		t.Fatal("a client without a ticket must be denied")
	}
}

// Ours refuses the same client, over QUIC and over TCP, when the authorizer denies
// and when the bundle is gone.
func TestResumptionDoesNotBypassOurs(t *testing.T) {
	type revocation struct {
		name   string
		revoke func(server *identity.Source, denied *atomic.Bool)
		want   identity.Reason
	}
	b := identitytest.NewCA("b.test")
	for _, tt := range []revocation{
		{"authorizer denies", func(_ *identity.Source, denied *atomic.Bool) { denied.Store(true) }, identity.ReasonUnauthorized},
		{"bundle removed", func(s *identity.Source, _ *atomic.Bool) { s.RemovePeerBundle(b.TrustDomain()) }, identity.ReasonUnknownTrustDomain},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := identitytest.NewCA("a.test")
			src := a.Source(a.ID("/server"))
			if err := src.SetPeerBundle(b.TrustDomain(), b.BundleJSON(1)); err != nil {
				t.Fatal(err)
			}
			var denied atomic.Bool
			server := src.ServerTLS([]string{alpn}, func(spiffeid.ID) error {
				if denied.Load() {
					return errDenied
				}
				return nil
			})
			addr := quicServer(t, server)
			client := spiffeClient(b, "/gw", a.Bundle())
			for range 3 {
				if resumed, err := quicDial(t, addr, client); err != nil || resumed {
					t.Fatalf("error %v, resumed %v before the revocation", err, resumed)
				}
			}
			overTCP := func() (resumed bool, clientErr, serverErr error) {
				c, s := tcpPair(t)
				seen := client.Clone()
				seen.VerifyConnection = func(cs tls.ConnectionState) error { resumed = cs.DidResume; return nil }
				clientErr, serverErr = handshake(t, seen, server, c, s)
				return resumed, clientErr, serverErr
			}
			for range 3 {
				if resumed, cerr, serr := overTCP(); cerr != nil || serr != nil || resumed {
					t.Fatalf("errors %v, %v, resumed %v before the revocation", cerr, serr, resumed)
				}
			}
			tt.revoke(src, &denied)
			if _, err := quicDial(t, addr, client); err == nil {
				t.Error("served over quic after the revocation")
			}
			if _, cerr, serr := overTCP(); cerr == nil || reason(serr) != tt.want {
				t.Errorf("over tcp after the revocation: client %v, server %v, want %s", cerr, serr, tt.want)
			}
		})
	}
}

// Even a server that somebody talked into issuing tickets is asked again: the
// check does not lean on tickets being off alone.
func TestResumedSessionIsRefusedEvenWithTicketsOn(t *testing.T) {
	a := identitytest.NewCA("a.test")
	server := a.Source(a.ID("/server")).ServerTLS([]string{alpn}, identity.AuthorizeAny())
	if !server.SessionTicketsDisabled || server.ClientSessionCache != nil {
		t.Fatal("tickets are on")
	}
	server.SessionTicketsDisabled = false
	client := spiffeClient(a, "/gw", a.Bundle())
	var last error
	for range 5 {
		c, s := tcpPair(t)
		if _, last = handshake(t, client, server, c, s); last != nil {
			break
		}
	}
	if reason(last) != identity.ReasonResumed {
		t.Fatalf("got %v", last)
	}
}

func TestClientConfigKeepsNoSessions(t *testing.T) {
	a := identitytest.NewCA("a.test")
	cfg := a.Source(a.ID("/gw")).ClientTLS([]string{alpn}, identity.AuthorizeAny())
	if cfg.ClientSessionCache != nil || !cfg.SessionTicketsDisabled || cfg.MinVersion != tls.VersionTLS13 || cfg.VerifyConnection == nil || cfg.VerifyPeerCertificate != nil {
		t.Fatalf("got %+v", cfg)
	}
}
