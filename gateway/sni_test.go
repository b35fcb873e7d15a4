package gateway_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/gateway/sniway"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
)

// tlsServer echoes over TLS that only those with a certificate of ca may speak.
func tlsServer(t *testing.T, ca *identitytest.CA, path string) net.Addr {
	t.Helper()
	config := &tls.Config{
		Certificates: []tls.Certificate{certOf(ca.SVID(ca.ID(path)))}, ClientAuth: tls.RequireAnyClientCert,
	}
	return tcpServer(t, func(c *net.TCPConn) {
		s := tls.Server(c, config)
		if err := s.Handshake(); err != nil {
			return
		}
		// The endpoint meets the workload itself: nobody stands in between.
		_, _ = io.WriteString(s, "hello "+s.ConnectionState().PeerCertificates[0].URIs[0].String()+"\n")
		_, _ = io.Copy(s, s)
	})
}

// bytewise writes byte by byte, each a segment of its own.
type bytewise struct{ net.Conn }

func (b bytewise) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := b.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// meet speaks TLS through an SNI way in, as a workload does that knows nothing of it.
func (n *node) meet(way int, config *tls.Config, wrap func(net.Conn) net.Conn) (*tls.Conn, error) {
	c, err := net.Dial("tcp", n.Addrs().SNI[way].String())
	if err != nil {
		return nil, err
	}
	n.cluster.world.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(60 * time.Second))
	if wrap != nil {
		c = wrap(c)
	}
	s := tls.Client(c, config)
	return s, s.Handshake()
}

func TestTLSIsCarriedAsItIs(t *testing.T) {
	w := newWorld(t, "alpha", "beta", "gamma")
	alpha, beta, gamma := w.cluster("alpha"), w.cluster("beta"), w.cluster("gamma")
	beta.host("web.shop", catalog.TLS, tlsServer(t, beta.ca, "/web")).host("plain.shop", catalog.HTTP, httpServer(t, who("plain")))
	gamma.host("web.shop", catalog.TLS, tlsServer(t, gamma.ca, "/web"))
	beta.host("secret.shop", catalog.TLS, tlsServer(t, beta.ca, "/secret"))
	beta.rules = []policy.Intention{{
		Name: "web", Services: []policy.ServicePattern{"web.shop"}, Action: policy.Allow, Callers: []policy.IDPattern{"spiffe://alpha.test/*"},
	}}
	near := alpha.gateway("gw1")
	beta.gateway("gw1")
	gamma.gateway("gw1")
	consul := sniway.Names{TrustDomain: "1234.consul", Datacenters: map[string]string{"dc2": "beta", "dc3": "gamma"}, Ports: map[string]string{"8443": "main"}}
	near.config.SNI = []gateway.SNIListener{
		{Address: "127.0.0.1:0", Caller: alpha.caller(), Names: consul},
		{Address: "127.0.0.1:0", Caller: alpha.caller(), Default: "web.shop.beta.mesh"},
	}
	w.start()
	config := func(name string) *tls.Config {
		return &tls.Config{
			ServerName: name, InsecureSkipVerify: true, Certificates: []tls.Certificate{certOf(alpha.ca.SVID(alpha.ca.ID("/workload")))},
		}
	}
	for name, c := range map[string]struct {
		way    int
		server string
		who    string
		wrap   func(net.Conn) net.Conn
	}{
		"the mesh's":             {0, "web.shop.gamma.mesh", "gamma", nil},
		"consul's":               {0, "web.shop.dc2.internal.1234.consul", "beta", nil},
		"istio's":                {0, "outbound_.8443_._.web.shop.svc.cluster.local", "", nil},
		"none":                   {1, "", "beta", nil},
		"consul's, byte by byte": {0, "web.shop.dc3.internal.1234.consul", "gamma", func(c net.Conn) net.Conn { return bytewise{c} }},
	} {
		eventually(t, name, func() error {
			s, err := near.meet(c.way, config(c.server), c.wrap)
			if err != nil {
				return err
			}
			if id := s.ConnectionState().PeerCertificates[0].URIs[0].String(); !strings.HasSuffix(id, ".test/web") || !strings.Contains(id, c.who) {
				t.Errorf("%s: the endpoint is %s, want one of %s", name, id, c.who)
			}
			want := "hello " + alpha.ca.ID("/workload").String() + "\n"
			greeting := make([]byte, len(want))
			if _, err := io.ReadFull(s, greeting); err != nil || string(greeting) != want {
				t.Errorf("%s: the endpoint says %q, %v", name, greeting, err)
			}
			if got, err := say(s, "and back\n"); err != nil || got != "and back\n" {
				t.Errorf("%s: %q, %v", name, got, err)
			}
			return nil
		})
	}
	for name, c := range map[string]struct {
		server string
		alert  string
	}{
		"an unknown service":      {"nobody.shop.mesh", "unrecognized name"},
		"a foreign name":          {"example.org", "unrecognized name"},
		"no name":                 {"", "unrecognized name"},
		"a port that is not tls":  {"plain.shop.mesh", "unrecognized name"},
		"a service that says no":  {"secret.shop.mesh", "access denied"},
		"a federation's listener": {"federation.beta.mesh", "unrecognized name"},
	} {
		_, err := near.meet(0, config(c.server), nil)
		if err == nil || !strings.Contains(err.Error(), c.alert) {
			t.Errorf("%s: %v, want the alert %s", name, err, c.alert)
		}
	}
	plain, err := net.Dial("tcp", near.Addrs().SNI[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plain.Close() }()
	_ = plain.SetDeadline(time.Now().Add(60 * time.Second))
	_, _ = io.WriteString(plain, "GET / HTTP/1.1\r\n\r\n")
	if n, err := plain.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, net.ErrClosed) {
		t.Errorf("what is no TLS: %d bytes, %v", n, err)
	}
	for _, reason := range []string{sniway.ReasonUnknown, sniway.ReasonNoName, sniway.ReasonNotPort, sniway.ReasonNotTLS} {
		eventually(t, reason, func() error {
			if n := near.metric("isthmus_gateway_refusals_total", "way=sni", "reason="+reason); n == 0 {
				return errors.New("is not counted")
			}
			return nil
		})
	}
}
