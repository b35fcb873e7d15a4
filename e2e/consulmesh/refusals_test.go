package consulmesh_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

// refusals: nobody who is not of the mesh gets in, and the gateway goes to nobody who
// is not. Every one is typed, logged and counted.
func (w *world) refusals(t *testing.T) {
	east, west := w.east.gateway(), w.west.gateway()
	key, root := w.key, w.roots[w.east]
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	web := w.east.id("web")
	for _, tt := range []struct {
		reason string
		cert   *tls.Certificate
	}{
		{"unknown_trust_domain", w.west.leaf("isthmus-gateway")}, // of another Consul's CA
		{"expired", mint(t, root, key, web, time.Now().Add(-time.Minute))},
		{"untrusted_chain", mint(t, root, other, web, time.Now().Add(time.Hour))}, // the name is right, the signature is not
		{"malformed_id", mint(t, root, key, "spiffe://"+w.east.domain, time.Now().Add(time.Hour))},
		{"no_certificate", nil},
	} {
		count := func() float64 {
			return metric(t, east, "isthmus_gateway_mtls_handshakes_total", `side="in"`, `result="`+tt.reason+`"`)
		}
		before := count()
		if got, err := w.enter("ledger", tt.cert); err == nil {
			t.Errorf("%s: answered %q", tt.reason, got)
		}
		stand.Eventually(t, within, tt.reason+" is counted and logged", func() error {
			n := metric(t, east, "isthmus_gateway_refusals_total", `way="mtls"`, `reason="`+tt.reason+`"`)
			if count() <= before || n == 0 || east.LogCount("handshake refused", "reason="+tt.reason) == 0 {
				return errNot
			}
			return nil
		})
	}
	// One that is as good as any of them, to be sure of the others.
	if got, err := w.enter("ledger", mint(t, root, key, web, time.Now().Add(time.Hour))); err != nil || got != "hello\n" {
		t.Errorf("a good one: %q, %v", got, err)
	}

	// A service of the mesh that the west's cluster does not know: the far gateway says no.
	before := metric(t, east, "isthmus_gateway_requests_total", `way="mtls"`, `service="ledger.default"`, `reason="denied"`)
	if got, err := w.enter("ledger", w.east.leaf("batch")); err == nil {
		t.Errorf("batch is answered %q", got)
	}
	stand.Eventually(t, within, "batch is denied", func() error {
		n := metric(t, east, "isthmus_gateway_requests_total", `way="mtls"`, `service="ledger.default"`, `reason="denied"`)
		if n <= before || west.LogCount("call denied", "caller="+w.east.id("batch"), "assurance=mtls") == 0 {
			return errNot
		}
		return nil
	})

	// A real sidecar of the other mesh finds no friend behind the door.
	foreign := stand.FreePort(t)
	w.west.Register(&api.AgentServiceRegistration{
		ID: "foreign", Name: "foreign", Address: "127.0.0.1", Port: int(w.doors["ledger"].Port()),
		Meta: map[string]string{"isthmus-owner": "test"}, Connect: &api.AgentServiceConnect{Native: true},
	})
	proxy := w.proxy(w.west, "west-web-sidecar", "web", "-service", "web", "-upstream", "foreign:"+foreign.String())
	proxy.Start()
	stand.Eventually(t, within, "the foreign sidecar is up", func() error {
		if got, err := sayTo(t.Context(), foreign); err == nil {
			t.Fatalf("it is answered %q", got)
		}
		if proxy.LogCount("failed to dial") == 0 {
			return fmt.Errorf("it has not tried: %s", proxy.LogTail(3))
		}
		return nil
	})

	// An endpoint that is another mesh's: the catalog names it, its certificate does not.
	reach := func() float64 {
		return metric(t, west, "isthmus_gateway_mtls_handshakes_total", `side="out"`, `result="unknown_trust_domain"`)
	}
	stand.Eventually(t, within, "the stray sidecar is met, and refused", func() error {
		if got, err := sayTo(t.Context(), w.upstreams["stray"]); err == nil {
			t.Fatalf("it is answered %q", got)
		}
		if reach() == 0 {
			return errNot
		}
		return nil
	})
	if n := metric(t, west, "isthmus_gateway_mtls_handshakes_total", `side="out"`, `result="ok"`); n == 0 {
		t.Error("no sidecar was met in order")
	}
}

// enter calls a service by the gateway's door, as who cert says.
func (w *world) enter(service string, cert *tls.Certificate) (string, error) {
	config := &tls.Config{InsecureSkipVerify: true}
	if cert != nil {
		config.Certificates = []tls.Certificate{*cert}
	}
	c, err := tls.Dial("tcp", w.doors[service].String(), config)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		return "", err
	}
	return bufio.NewReader(c).ReadString('\n')
}

// mint makes a leaf as Consul's CA does, with what a test wants in it.
func mint(t *testing.T, root *x509.Certificate, by *ecdsa.PrivateKey, id string, until time.Time) *tls.Certificate {
	t.Helper()
	uri, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// What is signed must name the root, also where another key signs it.
	issuer := *root
	issuer.PublicKey = &by.PublicKey
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), URIs: []*url.URL{uri},
		NotBefore: until.Add(-2 * time.Hour), NotAfter: until, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, &issuer, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
