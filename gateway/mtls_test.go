package gateway_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

func certOf(svid *x509svid.SVID) tls.Certificate {
	c := tls.Certificate{PrivateKey: svid.PrivateKey}
	for _, cert := range svid.Certificates {
		c.Certificate = append(c.Certificate, cert.Raw)
	}
	return c
}

// enter opens a connection to an mTLS way in as a workload; svid is nil of one
// without.
func (n *node) enter(way int, svid *x509svid.SVID, alpn ...string) (*tls.Conn, error) {
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: alpn}
	if svid != nil {
		config.Certificates = []tls.Certificate{certOf(svid)}
	}
	c, err := tls.Dial("tcp", n.Addrs().MTLS[way].String(), config)
	if err != nil {
		return nil, err
	}
	n.cluster.world.t.Cleanup(func() { _ = c.Close() })
	return c, c.SetDeadline(time.Now().Add(60 * time.Second))
}

// say sends a line and reads one back.
func say(c net.Conn, line string) (string, error) {
	if _, err := io.WriteString(c, line); err != nil {
		return "", err
	}
	answer := make([]byte, len(line))
	_, err := io.ReadFull(c, answer)
	return string(answer), err
}

// logBook is a log that a test reads.
type logBook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBook) has(texts ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
lines:
	for line := range strings.Lines(l.b.String()) {
		for _, text := range texts {
			if !strings.Contains(line, text) {
				continue lines
			}
		}
		return true
	}
	return false
}

func TestAWorkloadsOwnCertificateSaysWhoCalls(t *testing.T) {
	w := newWorld(t, "alpha", "beta")
	alpha, beta := w.cluster("alpha"), w.cluster("beta")
	beta.host("db", catalog.TCP, tcpServer(t, echo)).host("billing", catalog.HTTP, httpServer(t, who("billing")))
	beta.rules = []policy.Intention{{
		Name: "web", Services: []policy.ServicePattern{"*"}, Action: policy.Allow, Callers: []policy.IDPattern{"spiffe://alpha.test/web"},
	}}
	near, far := alpha.gateway("gw1"), beta.gateway("gw1")
	near.config.MTLS = []gateway.MTLSListener{
		{Address: "127.0.0.1:0", Service: "db"},
		{Address: "127.0.0.1:0", Service: "billing", ALPN: []string{"h2", "http/1.1"}},
		{Address: "127.0.0.1:0", Service: "db", Callers: []policy.IDPattern{"spiffe://alpha.test/batch"}},
	}
	logs := new(logBook)
	far.log = slog.New(slog.NewTextHandler(logs, nil))
	w.start()
	web, batch := alpha.ca.SVID(alpha.ca.ID("/web")), alpha.ca.SVID(alpha.ca.ID("/batch"))

	c, err := near.enter(0, web)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := say(c, "hello\n"); got != "hello\n" {
		t.Errorf("%q, %v", got, err)
	}
	if state := c.ConnectionState(); state.Version != tls.VersionTLS13 || state.NegotiatedProtocol != "" ||
		state.PeerCertificates[0].URIs[0].String() != alpha.id()+"/gateway/gw1" {
		t.Errorf("%s, %q, %s", tls.VersionName(state.Version), state.NegotiatedProtocol, state.PeerCertificates[0].URIs)
	}

	// The service of a port that carries HTTP is told who calls.
	transport := &http.Transport{
		DialTLSContext:    func(context.Context, string, string) (net.Conn, error) { return near.enter(1, web, "http/1.1") },
		DisableKeepAlives: true,
	}
	_, _, body := get(t, &http.Client{Transport: transport}, "https://billing.default.mesh/")
	if got := parse(t, body).Fields.Get("X-Forwarded-Client-Cert"); !strings.HasSuffix(got, ";URI=spiffe://alpha.test/web") {
		t.Errorf("the service hears that %q calls", got)
	}

	// The far gateway judges the proven ID, and says how it is known.
	c, err = near.enter(0, batch)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := say(c, "hello\n"); err == nil {
		t.Errorf("batch is answered %q", got)
	}
	eventually(t, "the denial is logged", func() error {
		if !logs.has(`msg="call denied"`, "caller=spiffe://alpha.test/batch", "assurance=mtls") {
			return errors.New(logs.b.String())
		}
		if n := near.metric("isthmus_gateway_requests_total", "way=mtls", "service=db.default", "reason=denied"); n != 1 {
			return fmt.Errorf("%v denied connections are counted, want 1", n)
		}
		return nil
	})

	for reason, who := range map[string]struct {
		way  int
		svid *x509svid.SVID
	}{
		"no_certificate":       {0, nil},
		"expired":              {0, alpha.ca.Expired(alpha.ca.ID("/web"))},
		"untrusted_chain":      {0, beta.ca.SVID(alpha.ca.ID("/web"))},
		"unauthorized":         {0, beta.ca.SVID(beta.ca.ID("/web"))}, // a peer's domain, whose roots are held
		"unknown_trust_domain": {2, x509svidOfStranger()},
	} {
		c, err := near.enter(who.way, who.svid)
		if err == nil { // in TLS 1.3 the answer comes with the first read
			_, err = say(c, "hello\n")
		}
		if err == nil {
			t.Errorf("%s: it is let in", reason)
		}
		eventually(t, reason+" is counted", func() error {
			for name, labels := range map[string][]string{
				"isthmus_gateway_mtls_handshakes_total": {"side=in", "result=" + reason},
				"isthmus_gateway_refusals_total":        {"way=mtls", "reason=" + reason},
			} {
				if n := near.metric(name, labels...); n != 1 {
					return fmt.Errorf("%s: %v", name, n)
				}
			}
			return nil
		})
	}
	if c, err := near.enter(2, batch); err != nil {
		t.Error(err)
	} else if _, err := say(c, "x"); err == nil {
		t.Error("batch may not call db, wherever it enters")
	}
	_ = far
}

// A listener without a service takes requests by their authority; each is its
// connection's, whatever others call by the same listener.
func TestRequestsOverMTLSAreTheirConnections(t *testing.T) {
	w := newWorld(t, "alpha", "beta")
	alpha, beta := w.cluster("alpha"), w.cluster("beta")
	alpha.host("local", catalog.HTTP, httpServer(t, who("local")))
	beta.host("billing", catalog.HTTP, httpServer(t, who("billing")))
	only := []policy.Intention{{
		Name: "web", Services: []policy.ServicePattern{"*"}, Action: policy.Allow, Callers: []policy.IDPattern{"spiffe://alpha.test/web"},
	}}
	alpha.rules, beta.rules = only, only
	near := alpha.gateway("gw1")
	beta.gateway("gw1")
	near.config.MTLS = []gateway.MTLSListener{{Address: "127.0.0.1:0"}}
	w.start()

	as := func(name string, protocols ...string) *http.Client {
		svid := alpha.ca.SVID(alpha.ca.ID("/" + name))
		transport := &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{certOf(svid)}},
			Protocols:       new(http.Protocols),
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, near.Addrs().MTLS[0].String())
			},
		}
		transport.Protocols.SetHTTP1(slices.Contains(protocols, "http/1.1"))
		transport.Protocols.SetHTTP2(slices.Contains(protocols, "h2"))
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport, Timeout: 60 * time.Second}
	}
	for _, protocol := range []string{"http/1.1", "h2"} {
		web, batch := as("web", protocol), as("batch", protocol)
		for _, service := range []string{"billing", "local"} {
			url := "https://" + service + ".default.mesh/x"
			for range 2 { // on one connection
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("X-Forwarded-Client-Cert", "URI=spiffe://alpha.test/root")
				resp, err := web.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				got := parse(t, string(body))
				if want := ";URI=spiffe://alpha.test/web"; (resp.TLS.NegotiatedProtocol == "h2") != (protocol == "h2") ||
					!strings.HasSuffix(got.Fields.Get("X-Forwarded-Client-Cert"), want) || got.Fields.Get("X-Forwarded-Proto") != "https" {
					t.Errorf("%s over %s (%s): %+v", service, protocol, resp.TLS.NegotiatedProtocol, got)
				}
			}
			if status, header, _ := get(t, batch, url); status != http.StatusForbidden {
				t.Errorf("batch, %s over %s: %d %s", service, protocol, status, header.Get("Isthmus-Reason"))
			}
		}
	}
	// net/http falls back to no certificate silently: it is the listener that says no.
	none := as("web", "http/1.1")
	none.Transport.(*http.Transport).TLSClientConfig.Certificates = nil
	if resp, err := none.Get("https://billing.default.mesh/"); err == nil {
		_ = resp.Body.Close()
		t.Errorf("without a certificate: %s", resp.Status)
	}
	eventually(t, "it is counted", func() error {
		if n := near.metric("isthmus_gateway_refusals_total", "way=mtls", "reason=no_certificate"); n != 1 {
			return fmt.Errorf("%v", n)
		}
		return nil
	})
	eventually(t, "the requests are counted", func() error {
		if n := near.metric("isthmus_gateway_requests_total", "way=mtls", "service=billing.default", "reason=ok"); n != 4 {
			return fmt.Errorf("%v, want 4", n)
		}
		return nil
	})
}

func x509svidOfStranger() *x509svid.SVID {
	stranger := identitytest.NewCA("stranger.test")
	return stranger.SVID(stranger.ID("/web"))
}

// sidecar serves one service over mTLS: TLS in front of a handler of connections.
func sidecar(t *testing.T, svid *x509svid.SVID, verdict func(caller string) error, serve func(net.Conn)) (net.Addr, *atomic.Int64) {
	t.Helper()
	var handshakes atomic.Int64
	config := &tls.Config{
		ClientAuth: tls.RequireAnyClientCert, Certificates: []tls.Certificate{certOf(svid)},
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			handshakes.Add(1)
			leaf, err := x509.ParseCertificate(raw[0])
			if err != nil {
				return err
			}
			return verdict(leaf.URIs[0].String())
		},
	}
	return tcpServer(t, func(c *net.TCPConn) {
		conn := tls.Server(c, config)
		if conn.Handshake() == nil {
			serve(conn)
		}
		_ = conn.Close()
	}), &handshakes
}

func anyone(string) error { return nil }

// serveHTTP serves HTTP on connections that are handed to it.
func serveHTTP(t *testing.T, h http.HandlerFunc) func(net.Conn) {
	t.Helper()
	l := &handed{conns: make(chan net.Conn), closed: make(chan struct{})}
	s := httptest.NewUnstartedServer(h)
	_ = s.Listener.Close()
	s.Listener = l
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return func(c net.Conn) {
		done := make(chan struct{})
		select {
		case l.conns <- &notified{Conn: c, done: sync.OnceFunc(func() { close(done) })}:
			<-done
		case <-l.closed:
		}
	}
}

type handed struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *handed) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *handed) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *handed) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

type notified struct {
	net.Conn
	done func()
}

func (c *notified) Close() error { defer c.done(); return c.Conn.Close() }

// speaksMTLS makes the endpoints of a service mTLS ones.
func (c *cluster) speaksMTLS(service, server string) {
	for i := range c.service(service).Endpoints {
		e := &c.service(service).Endpoints[i]
		e.Transport, e.ServerID = catalog.MTLS, server
	}
}

func TestEndpointsThatSpeakMTLSOnly(t *testing.T) {
	w := newWorld(t, "alpha", "beta")
	alpha, beta := w.cluster("alpha"), w.cluster("beta")
	id := func(name string) *x509svid.SVID { return beta.ca.SVID(beta.ca.ID("/" + name)) }
	shown := make(chan string, 100)
	see := func(caller string) error { shown <- caller; return nil }
	db, _ := sidecar(t, id("db"), see, func(c net.Conn) { _, _ = io.Copy(c, c) })
	one, ones := sidecar(t, id("billing"), anyone, serveHTTP(t, who("one")))
	two, twos := sidecar(t, id("billing"), anyone, serveHTTP(t, who("two")))
	impostor, tried := sidecar(t, id("other"), anyone, serveHTTP(t, who("impostor")))
	closed, _ := sidecar(t, id("closed"), func(string) error { return errors.New("an intention says no") }, serveHTTP(t, who("closed")))
	grpcish, _ := sidecar(t, id("h2c"), anyone, serveHTTP(t, who("h2c")))
	beta.host("db", catalog.TCP, db).host("billing", catalog.HTTP, one, two, impostor).host("closed", catalog.HTTP, closed).
		host("closedraw", catalog.TCP, closed).host("h2c", catalog.GRPC, grpcish)
	for service, name := range map[string]string{"db": "db", "billing": "billing", "closed": "closed", "closedraw": "closed", "h2c": "h2c"} {
		beta.speaksMTLS(service, beta.ca.ID("/"+name).String())
	}
	near := alpha.gateway("gw1", "db", "closedraw")
	far := beta.gateway("gw1")
	w.start()

	if got, err := say(near.dial(0), "hello\n"); got != "hello\n" {
		t.Errorf("bytes: %q, %v", got, err)
	}
	if got := <-shown; got != beta.id()+"/gateway/gw1" {
		t.Errorf("the endpoint is shown %s", got)
	}

	// Requests are balanced one by one over connections that are kept; who proves to be
	// somebody else serves none.
	client := near.client()
	answers := map[string]int{}
	for range 40 {
		status, _, body := get(t, client, "http://billing.default.mesh/")
		if status != http.StatusOK {
			t.Fatalf("%d %s", status, body)
		}
		answers[parse(t, body).Name]++
	}
	if answers["one"] == 0 || answers["two"] == 0 || answers["one"]+answers["two"] != 40 {
		t.Errorf("answered by %v", answers)
	}
	if n := ones.Load() + twos.Load(); n > 10 {
		t.Errorf("40 requests made %d handshakes", n)
	}
	if n := far.metric("isthmus_gateway_mtls_handshakes_total", "side=out", "result=unauthorized"); n == 0 {
		t.Errorf("nobody noticed the impostor, which was met %d times", tried.Load())
	}
	if status, _, body := get(t, client, "http://h2c.default.mesh/"); status != http.StatusOK || parse(t, body).Proto != "HTTP/2.0" {
		t.Errorf("http/2 inside: %d %s", status, body)
	}

	// What the endpoint's mesh denies is denied, typed, and not tried elsewhere.
	status, header, _ := get(t, client, "http://closed.default.mesh/")
	if status != http.StatusForbidden || header.Get("Isthmus-Reason") != "denied" {
		t.Errorf("%d %s", status, header.Get("Isthmus-Reason"))
	}
	if err := near.refusal(1); err == nil {
		t.Error("bytes are answered")
	}
	eventually(t, "the denials are counted", func() error {
		for _, labels := range [][]string{{"service=closed.default", "way=http"}, {"service=closedraw.default", "way=tcp"}} {
			if n := near.metric("isthmus_gateway_requests_total", append(labels, "reason=denied")...); n != 1 {
				return fmt.Errorf("%v: %v", labels, n)
			}
		}
		if n := far.metric("isthmus_gateway_mtls_handshakes_total", "side=out", "result=denied"); n != 2 {
			return fmt.Errorf("%v handshakes were denied", n)
		}
		return nil
	})
	if n := near.metric("isthmus_gateway_ejections_total") + far.metric("isthmus_gateway_ejections_total", "service=closed.default"); n != 0 {
		t.Errorf("%v ejections: a denial says nothing of a service's health", n)
	}
}
