package workload_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/isthmus-mesh/isthmus/gateway/workload"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

func newLive(t *testing.T) (*workload.Live, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	live, err := workload.NewLive(registry)
	if err != nil {
		t.Fatal(err)
	}
	return live, registry
}

// pair is a pair of connected loopback TCP connections.
func pair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, _ := l.Accept()
		accepted <- c
	}()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	server = <-accepted
	t.Cleanup(func() { _, _ = client.Close(), server.Close() })
	return client, server
}

func tlsCert(svid *x509svid.SVID) *tls.Certificate {
	c := &tls.Certificate{PrivateKey: svid.PrivateKey}
	for _, cert := range svid.Certificates {
		c.Certificate = append(c.Certificate, cert.Raw)
	}
	return c
}

// caller is a TLS client as an application or a sidecar has one, which checks nothing.
func caller(svid *x509svid.SVID) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return tlsCert(svid), nil
	}}
}

func TestTheDoorTakesTheCertificateForTheCaller(t *testing.T) {
	ca, other := identitytest.NewCA("mesh.test"), identitytest.NewCA("other.test")
	web := ca.ID("/web")
	none := &x509svid.SVID{}
	for _, tt := range []struct {
		name    string
		svid    *x509svid.SVID
		allowed []policy.IDPattern
		want    string // the reason, "ok"
	}{
		{"a workload of the domain", ca.SVID(web), nil, "ok"},
		{"a workload that is named", ca.SVID(web), []policy.IDPattern{"spiffe://mesh.test/*"}, "ok"},
		{"one that is not named", ca.SVID(web), []policy.IDPattern{"spiffe://mesh.test/batch"}, "unauthorized"},
		{"one of a peer's domain, whose roots are held", other.SVID(other.ID("/web")), nil, "unauthorized"},
		{"one of a domain that nobody knows", identitytest.NewCA("stranger.test").SVID(identitytest.NewCA("stranger.test").ID("/web")), nil, "unknown_trust_domain"},
		{"one of another ca of that name", identitytest.NewCA("mesh.test").SVID(web), nil, "untrusted_chain"},
		{"an expired one", ca.Expired(web), nil, "expired"},
		{"one that is not valid yet", ca.NotYetValid(web), nil, "not_yet_valid"},
		{"no certificate", none, nil, "no_certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			live, registry := newLive(t)
			door, err := workload.NewDoor(workload.DoorOptions{Source: ca.Source(ca.ID("/gw"), other.Bundle()), Allowed: tt.allowed, Live: live})
			if err != nil {
				t.Fatal(err)
			}
			c, s := pair(t)
			go func() {
				conn := tls.Client(c, caller(tt.svid))
				_, _ = conn.Write([]byte("hello\n"))
				_, _ = conn.Read(make([]byte, 1))
				_ = c.Close()
			}()
			_, guest, err := door.Enter(t.Context(), s)
			if got := workload.Reason(err); got != tt.want {
				t.Fatalf("%v, want %s", err, tt.want)
			}
			if n := testutil.ToFloat64(counterOf(t, registry, "in", tt.want)); n != 1 {
				t.Errorf("counted %v times", n)
			}
			if err != nil {
				return
			}
			defer guest.Leave()
			line, err := bufio.NewReader(guest.Conn).ReadString('\n')
			if guest.Caller != web.String() || line != "hello\n" {
				t.Errorf("caller %s says %q, %v", guest.Caller, line, err)
			}
		})
	}
}

// counterOf reads one series of the handshakes.
func counterOf(t *testing.T, r *prometheus.Registry, side, result string) prometheus.Collector {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	c := prometheus.NewGauge(prometheus.GaugeOpts{Name: "x"})
	for _, f := range families {
		if f.GetName() != "isthmus_gateway_mtls_handshakes_total" {
			continue
		}
		for _, m := range f.Metric {
			if m.Label[0].GetValue() == result && m.Label[1].GetValue() == side {
				c.Set(m.GetCounter().GetValue())
			}
		}
	}
	return c
}

// endpoint is a sidecar: a TLS server that asks an authorizer of its own.
func endpoint(svid *x509svid.SVID, verdict error, tickets bool) *tls.Config {
	return &tls.Config{
		ClientAuth: tls.RequireAnyClientCert, SessionTicketsDisabled: !tickets,
		GetCertificate:        func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return tlsCert(svid), nil },
		VerifyPeerCertificate: func([][]byte, [][]*x509.Certificate) error { return verdict },
	}
}

func TestADialerAcceptsWhoTheCatalogNames(t *testing.T) {
	ca, mesh := identitytest.NewCA("own.test"), identitytest.NewCA("td.consul")
	own, joined := ca.Source(ca.ID("/gw")), mesh.Source(mesh.ID("/ns/default/dc/dc1/svc/isthmus-gateway"))
	billing := mesh.ID("/ns/default/dc/dc1/svc/billing")
	for _, tt := range []struct {
		name    string
		server  *tls.Config
		id      string
		want    string
		reached bool
	}{
		{"a sidecar of the mesh", endpoint(mesh.SVID(billing), nil, true), billing.String(), "ok", true},
		{"one that gives no sign", endpoint(mesh.SVID(billing), nil, false), billing.String(), "ok", true},
		{"a service of the own domain", endpoint(ca.SVID(ca.ID("/db")), nil, true), ca.ID("/db").String(), "ok", true},
		{"another service", endpoint(mesh.SVID(mesh.ID("/ns/default/dc/dc1/svc/web")), nil, true), billing.String(), "unauthorized", false},
		{"that name in another mesh", endpoint(identitytest.NewCA("td.consul").SVID(billing), nil, true), billing.String(), "untrusted_chain", false},
		{"expired", endpoint(mesh.Expired(billing), nil, true), billing.String(), "expired", false},
		{"its intentions say no", endpoint(mesh.SVID(billing), errors.New("no"), true), billing.String(), "denied", false},
		{"its intentions say no, without a sign", endpoint(mesh.SVID(billing), errors.New("no"), false), billing.String(), "denied", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			live, registry := newLive(t)
			d := workload.NewDialer(workload.NewIdentities(own, joined), live)
			c, s := pair(t)
			shown := make(chan string, 1)
			go func() {
				srv := tls.Server(s, tt.server)
				line, err := bufio.NewReader(srv).ReadString('\n')
				if err == nil {
					_, _ = io.WriteString(srv, "got "+line)
				}
				who := ""
				if certs := srv.ConnectionState().PeerCertificates; len(certs) > 0 {
					who = certs[0].URIs[0].String()
				}
				shown <- who
				_ = s.Close()
			}()
			conn, err := d.Secure(t.Context(), c, tt.id)
			if got := workload.Reason(err); got != tt.want {
				t.Fatalf("%v, want %s", err, tt.want)
			}
			if n := testutil.ToFloat64(counterOf(t, registry, "out", tt.want)); n != 1 {
				t.Errorf("counted %v times", n)
			}
			if !tt.reached {
				<-shown
				return
			}
			defer func() { _ = conn.Close() }()
			_, _ = io.WriteString(conn, "hello\n")
			line, err := bufio.NewReader(conn).ReadString('\n')
			if line != "got hello\n" {
				t.Errorf("%q, %v", line, err)
			}
			// Who is met decides who the gateway is.
			if got := <-shown; (got == joined.ID().String()) != strings.HasPrefix(tt.id, "spiffe://td.consul/") {
				t.Errorf("it showed %s to %s", got, tt.id)
			}
		})
	}
}

// A verdict that is later than the wait for it is told from a broken connection.
func TestALateRefusalIsStillOne(t *testing.T) {
	ca := identitytest.NewCA("own.test")
	live, _ := newLive(t)
	d := workload.NewDialer(workload.NewIdentities(ca.Source(ca.ID("/gw"))), live)
	c, s := pair(t)
	late := make(chan struct{})
	config := endpoint(ca.SVID(ca.ID("/db")), nil, false)
	config.VerifyPeerCertificate = func([][]byte, [][]*x509.Certificate) error {
		<-late
		return errors.New("no")
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = tls.Server(s, config).Handshake(); _ = s.Close() }()
	conn, err := d.Secure(t.Context(), c, ca.ID("/db").String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	close(late)
	_, err = conn.Read(make([]byte, 1))
	denied, ok := errors.AsType[*workload.DeniedError](err)
	if !ok || denied.Status() != wire.Denied {
		t.Errorf("%v", err)
	}
	<-done
}

func TestAnEndpointMaySpeakFirstAndSignAgain(t *testing.T) {
	ca := identitytest.NewCA("own.test")
	live, _ := newLive(t)
	d := workload.NewDialer(workload.NewIdentities(ca.Source(ca.ID("/gw"))), live)
	c, s := pair(t)
	go func() {
		srv := tls.Server(s, endpoint(ca.SVID(ca.ID("/db")), nil, true))
		_, _ = io.WriteString(srv, "SSH-2.0\n")
		_, _ = io.Copy(srv, srv)
		_ = srv.Close()
	}()
	conn, err := d.Secure(t.Context(), c, ca.ID("/db").String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	r := bufio.NewReader(conn)
	if line, err := r.ReadString('\n'); line != "SSH-2.0\n" {
		t.Fatalf("%q, %v", line, err)
	}
	_, _ = io.WriteString(conn, "x\n")
	if line, err := r.ReadString('\n'); line != "x\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if err := conn.(*workload.Conn).CloseWrite(); err != nil { // half-close passes
		t.Fatal(err)
	}
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
}

func TestAnEndpointThatHangsIsGivenUp(t *testing.T) {
	ca := identitytest.NewCA("own.test")
	live, _ := newLive(t)
	d := workload.NewDialer(workload.NewIdentities(ca.Source(ca.ID("/gw"))), live)
	c, _ := pair(t) // nobody answers
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := d.Secure(ctx, c, ca.ID("/db").String()); workload.Reason(err) != "timeout" {
		t.Errorf("%v", err)
	}
}

// When a root goes, who hangs from it goes, on both sides, and nobody else.
func TestConnectionsEndWithTheirRoot(t *testing.T) {
	old, young := identitytest.NewCA("mesh.test"), identitytest.NewCA("mesh.test")
	source := identity.NewStatic(young.SVID(young.ID("/gw")), bundleOf(old, young))
	live, registry := newLive(t)
	door, err := workload.NewDoor(workload.DoorOptions{Source: source, Live: live})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	followed := make(chan struct{})
	go func() { defer close(followed); _ = live.Follow(ctx, source) }()
	defer func() { cancel(); <-followed }()

	enter := func(ca *identitytest.CA) context.Context {
		c, s := pair(t)
		go func() { _ = tls.Client(c, caller(ca.SVID(ca.ID("/web")))).Handshake() }()
		guarded, guest, err := door.Enter(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(guest.Leave)
		return guarded
	}
	ofOld, ofYoung := enter(old), enter(young)
	d := workload.NewDialer(workload.NewIdentities(source), live)
	c, s := pair(t)
	go func() { _ = tls.Server(s, endpoint(old.SVID(old.ID("/db")), nil, true)).Handshake() }()
	dialed, err := d.Secure(t.Context(), c, old.ID("/db").String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dialed.Close() }()

	// Again and again, since Follow may not have subscribed yet.
	for deadline := time.Now().Add(patience); ofOld.Err() == nil; time.Sleep(5 * time.Millisecond) {
		if err := source.ReplaceStatic(young.SVID(young.ID("/gw")), bundleOf(young)); err != nil || time.Now().After(deadline) {
			t.Fatalf("not within %s: %v", patience, err)
		}
	}
	if revoked := workload.Revoked(ofOld); revoked == nil || revoked.Status() != wire.Revoked {
		t.Errorf("it ended of %v", context.Cause(ofOld))
	}
	if _, err := dialed.Read(make([]byte, 1)); err == nil {
		t.Error("the endpoint's connection goes on")
	}
	if ofYoung.Err() != nil || workload.Revoked(ofYoung) != nil {
		t.Error("a connection of the new root ended")
	}
	if err := testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP isthmus_gateway_mtls_ended_total Open mTLS connections with workloads that were ended because the peer's certificate leads to no root any more, by reason.
# TYPE isthmus_gateway_mtls_ended_total counter
isthmus_gateway_mtls_ended_total{reason="untrusted_chain",side="in"} 1
isthmus_gateway_mtls_ended_total{reason="untrusted_chain",side="out"} 1
`), "isthmus_gateway_mtls_ended_total"); err != nil {
		t.Error(err)
	}
}

// A root may go while somebody who hangs from it enters: what was proven by it before
// must not be let in after.
func TestARootThatGoesWhileSomebodyEnters(t *testing.T) {
	old, young := identitytest.NewCA("mesh.test"), identitytest.NewCA("mesh.test")
	source := identity.NewStatic(young.SVID(young.ID("/gw")), bundleOf(old, young))
	live, _ := newLive(t)
	updates, stop := source.Updates()
	defer stop()
	door, err := workload.NewDoor(workload.DoorOptions{Source: source, Live: live, Ask: func(ctx context.Context, _ *x509.Certificate) error {
		if err := source.ReplaceStatic(young.SVID(young.ID("/gw")), bundleOf(young)); err != nil {
			return err
		}
		<-updates // whoever follows sweeps now, and does not find the one who is asking
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	c, s := pair(t)
	go func() { _ = tls.Client(c, caller(old.SVID(old.ID("/web")))).Handshake() }()
	guarded, guest, err := door.Enter(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Leave()
	if workload.Revoked(guarded) == nil {
		t.Error("a guest without a root stays, and nothing will ever end it")
	}
}

func bundleOf(cas ...*identitytest.CA) *x509bundle.Bundle {
	b := x509bundle.New(cas[0].TrustDomain())
	for _, ca := range cas {
		b.AddX509Authority(ca.Certificate())
	}
	return b
}
