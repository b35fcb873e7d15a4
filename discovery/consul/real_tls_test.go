package consul_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/consul"
	"github.com/isthmus-mesh/isthmus/discovery/consul/agent"
	"github.com/isthmus-mesh/isthmus/discovery/consul/consultest"
)

// authority is a CA with its files.
type authority struct {
	t    *testing.T
	file string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, file: filepath.Join(t.TempDir(), "ca.pem"), key: key}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

// issue writes a certificate for a name, and its key, into dir.
func (a *authority) issue(dir, name string) (certFile, keyFile string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePEM(a.t, certFile, "CERTIFICATE", der)
	writePEM(a.t, keyFile, "EC PRIVATE KEY", private)
	return certFile, keyFile
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The agent is reached over TLS by its name, with a certificate that is read anew
// for each handshake; nobody else is believed, and nothing is read in vain.
func TestRealConsulOverTLS(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t, "consul"), newAuthority(t, "somebody")
	serverCert, serverKey := ca.issue(t.TempDir(), "server.dc1.consul")
	a := realAgent(t, consultest.Options{Dev: true, CAFile: ca.file, CertFile: serverCert, KeyFile: serverKey})
	a.Register(&api.AgentServiceRegistration{ID: "web-1", Name: "web", Address: "10.0.0.1", Port: 80})
	clientDir := t.TempDir()
	cert, key := ca.issue(clientDir, "isthmus")
	config := func(tls agent.TLS) consul.Config {
		return consul.Config{Config: agent.Config{Address: a.HTTPS(), Scheme: "https", TLS: tls}, RequestTimeout: 5 * time.Second}
	}
	good := agent.TLS{CAFile: ca.file, CertFile: cert, KeyFile: key, ServerName: "server.dc1.consul"}
	r := start(t, config(good))
	r.await(t, "web", func(s *catalog.Snapshot) bool { return len(endpoints(s, "web")) == 1 })

	for name, tls := range map[string]agent.TLS{
		"another CA":        {CAFile: other.file, CertFile: cert, KeyFile: key, ServerName: good.ServerName},
		"another name":      {CAFile: ca.file, CertFile: cert, KeyFile: key, ServerName: "server.dc2.consul"},
		"no certificate":    {CAFile: ca.file, ServerName: good.ServerName},
		"no such key there": {CAFile: ca.file, CertFile: cert, KeyFile: filepath.Join(clientDir, "none"), ServerName: good.ServerName},
	} {
		t.Run(name, func(t *testing.T) {
			bad := start(t, config(tls))
			for n := 0; ; n++ {
				if _, err := bad.source.LastRead(); err != nil {
					if s := err.Error(); !strings.Contains(s, "tls") && !strings.Contains(s, "x509") && !strings.Contains(s, "no such file") {
						t.Errorf("the error does not say why: %v", err)
					}
					break
				}
				if n > 1500 {
					t.Fatal("no error")
				}
				pause()
			}
			if bad.count() != 0 {
				t.Error("published")
			}
		})
	}

	// A certificate that nobody accepts any more is replaced: no restart is needed.
	other.issue(clientDir, "isthmus") // of the wrong CA
	late := start(t, config(good))
	for n := 0; ; n++ {
		if _, err := late.source.LastRead(); err != nil {
			break
		}
		if n > 1500 {
			t.Fatal("a certificate of another CA was accepted")
		}
		pause()
	}
	ca.issue(clientDir, "isthmus")
	late.await(t, "with the new certificate", func(s *catalog.Snapshot) bool { return len(endpoints(s, "web")) == 1 })
}
