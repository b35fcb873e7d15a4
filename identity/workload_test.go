package identity_test

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/prometheus/client_golang/prometheus"
)

func TestWorkloadsNeedNoApplicationProtocol(t *testing.T) {
	ca := identitytest.NewCA("a.test")
	gw, web := ca.Source(ca.ID("/gw")), ca.Source(ca.ID("/web"))
	member := identity.AuthorizeMemberOf(ca.TrustDomain())
	for _, tt := range []struct {
		name            string
		offered, wanted []string
		want            string
	}{
		{"neither has one", nil, nil, ""},
		{"only the workload has one", nil, []string{"h2"}, ""},
		{"only the listener has one", []string{"h2", "http/1.1"}, nil, ""},
		{"both have one", []string{"h2", "http/1.1"}, []string{"http/1.1"}, "http/1.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client := web.WorkloadClientTLS(identity.AuthorizeIDs(gw.ID()), func() {})
			client.NextProtos = tt.wanted
			server := gw.WorkloadServerTLS(tt.offered, member)
			verify := server.VerifyConnection
			var got tls.ConnectionState
			server.VerifyConnection = func(cs tls.ConnectionState) error { got = cs; return verify(cs) }
			c, s := tcpPair(t)
			if cerr, serr := handshake(t, client, server, c, s); cerr != nil || serr != nil {
				t.Fatalf("client: %v, server: %v", cerr, serr)
			}
			if got.NegotiatedProtocol != tt.want || got.Version != tls.VersionTLS13 {
				t.Errorf("negotiated %q in %s, want %q", got.NegotiatedProtocol, tls.VersionName(got.Version), tt.want)
			}
		})
	}
}

// Everything but the application protocol is held to as between gateways.
func TestWorkloadsAreJudgedLikeEverybody(t *testing.T) {
	a, b := identitytest.NewCA("a.test"), identitytest.NewCA("b.test")
	gw := a.Source(a.ID("/gw"))
	for _, tt := range []struct {
		name   string
		change func(*tls.Config)
		source *identity.Source
		want   identity.Reason
	}{
		{"good", nil, a.Source(a.ID("/web")), ""},
		{"another mesh", nil, b.Source(b.ID("/web"), a.Bundle()), identity.ReasonUnknownTrustDomain},
		{"another ca of that name", nil, identity.NewStatic(identitytest.NewCA("a.test").SVID(a.ID("/web")), a.Bundle()), identity.ReasonUntrustedChain},
		{"not allowed", nil, a.Source(a.ID("/other")), identity.ReasonUnauthorized},
		{"no certificate", func(c *tls.Config) { c.GetClientCertificate = noCertificate }, a.Source(a.ID("/web")), identity.ReasonNoCertificate},
		{"expired", func(c *tls.Config) { c.GetClientCertificate = certificate(a.Expired(a.ID("/web"))) }, a.Source(a.ID("/web")), identity.ReasonExpired},
		{"tls 1.2", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }, a.Source(a.ID("/web")), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client := tt.source.WorkloadClientTLS(identity.AuthorizeIDs(gw.ID()), func() { t.Error("accepted") })
			if tt.change != nil {
				tt.change(client)
			}
			if tt.name == "good" {
				client.ClientSessionCache = nil
			}
			c, s := tcpPair(t)
			_, serr := handshake(t, client, gw.WorkloadServerTLS(nil, identity.AuthorizeIDs(a.ID("/web"))), c, s)
			if refused := tt.name != "good"; (serr != nil) != refused || reason(serr) != tt.want {
				t.Errorf("the server says %v, want reason %q", serr, tt.want)
			}
		})
	}
}

// In TLS 1.3 a client is done before it is judged. That a server has taken it shows
// by the ticket, and that it has not by the alert.
func TestAWorkloadShowsThatItHasTakenTheClient(t *testing.T) {
	ca := identitytest.NewCA("a.test")
	gw := ca.Source(ca.ID("/gw"))
	for _, allowed := range []bool{true, false} {
		sidecar := certificate(ca.SVID(ca.ID("/sidecar")))
		server := &tls.Config{
			MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAnyClientCert,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return sidecar(nil) },
			VerifyConnection: func(tls.ConnectionState) error {
				if !allowed {
					return errors.New("an intention says no")
				}
				return nil
			},
		}
		c, s := tcpPair(t)
		judged := make(chan error, 1)
		go func() { judged <- tls.Server(s, server).Handshake() }()
		accepted := false
		conn := tls.Client(c, gw.WorkloadClientTLS(identity.AuthorizeIDs(ca.ID("/sidecar")), func() {
			accepted = true
			_ = c.SetReadDeadline(time.Unix(1, 0)) // ends the Read that the sign came in
		}))
		if err := conn.Handshake(); err != nil {
			t.Fatal(err)
		}
		_, err := conn.Read(make([]byte, 1))
		verdict := <-judged
		if accepted != allowed || (verdict == nil) != allowed {
			t.Errorf("allowed %v: the server says %v, the sign was seen: %v", allowed, verdict, accepted)
		}
		alert, refused := errors.AsType[*net.OpError](err)
		switch {
		case allowed && !errors.Is(err, os.ErrDeadlineExceeded):
			t.Errorf("allowed: %v", err)
		case !allowed && (!refused || alert.Op != "remote error"):
			t.Errorf("refused: %v", err)
		}
		_, _ = c.Close(), s.Close()
	}
}

// The session cache of a dialer keeps nothing, so that nothing is resumed.
func TestAWorkloadConnectionIsNeverResumed(t *testing.T) {
	ca := identitytest.NewCA("a.test")
	gw := ca.Source(ca.ID("/gw"))
	cert := certificate(ca.SVID(ca.ID("/sidecar")))
	server := &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAnyClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert(nil) },
	}
	signs := 0
	client := gw.WorkloadClientTLS(identity.AuthorizeIDs(ca.ID("/sidecar")), func() { signs++ })
	client.ServerName = "one.key" // what a cache would find it by
	for range 3 {
		c, s := tcpPair(t)
		resumed := make(chan bool, 1)
		go func() {
			srv := tls.Server(s, server)
			_ = srv.Handshake()
			_, _ = srv.Write([]byte{1})
			resumed <- srv.ConnectionState().DidResume
		}()
		conn := tls.Client(c, client)
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if <-resumed || conn.ConnectionState().DidResume {
			t.Error("resumed")
		}
		_, _ = c.Close(), s.Close()
	}
	if signs != 3 {
		t.Errorf("%d signs on 3 connections", signs)
	}
}

func TestWorkloadRefusalsAreCounted(t *testing.T) {
	ca := identitytest.NewCA("a.test")
	registry := prometheus.NewRegistry()
	feed := newFeed()
	gw := run(t, identity.Options{Feed: feed, Registerer: registry})
	feed.offer(ca, ca.SVID(ca.ID("/gw")))
	waitReady(t, gw)
	client := ca.Source(ca.ID("/web")).WorkloadClientTLS(identity.AuthorizeAny(), func() {})
	client.MinVersion, client.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	c, s := tcpPair(t)
	_, _ = handshake(t, client, gw.WorkloadServerTLS(nil, identity.AuthorizeAny()), c, s)
	if n := counter(t, registry, "isthmus_identity_refused_total", "reason", "tls_version"); n != 1 {
		t.Errorf("tls_version is counted %v times", n)
	}
}
