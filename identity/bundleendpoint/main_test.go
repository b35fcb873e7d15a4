package bundleendpoint_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/bundleendpoint"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 40 * time.Second // for what must come; no measure

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// webCert is a certificate for a host name, as PEM files, and the file of its root.
type webCert struct {
	cert, key, ca string
	pair          tls.Certificate
}

// writeWebCert makes a root and a certificate below it, or below itself.
func writeWebCert(t *testing.T, dir string, change func(*x509.Certificate)) webCert {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "web test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	w := webCert{cert: filepath.Join(dir, "tls.crt"), key: filepath.Join(dir, "tls.key"), ca: filepath.Join(dir, "tls.crt")}
	for path, block := range map[string]*pem.Block{w.cert: {Type: "CERTIFICATE", Bytes: der}, w.key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if w.pair, err = tls.X509KeyPair(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})); err != nil {
		t.Fatal(err)
	}
	return w
}

// world is a trust domain that is followed, and one that follows.
type world struct {
	t        *testing.T
	far, own *identitytest.CA
	farID    spiffeid.ID
	source   *identity.Source // the follower's
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, far: identitytest.NewCA("far.test"), own: identitytest.NewCA("own.test")}
	w.farID = w.far.ID("/endpoint")
	w.source = w.own.Source(w.own.ID("/fed"))
	return w
}

// pin trusts the far domain's first bundle.
func (w *world) pin() *world {
	w.t.Helper()
	if err := w.source.SetPeerBundle(w.far.TrustDomain(), w.far.BundleJSON(1)); err != nil {
		w.t.Fatal(err)
	}
	return w
}

// sequence of the far domain's bundle that the follower's process trusts.
func (w *world) sequence() uint64 {
	for _, b := range w.source.Bundles() {
		if b.TrustDomain == w.far.TrustDomain() {
			return b.Sequence
		}
	}
	return 0
}

// serve answers with handler under an SVID of the far domain.
func (w *world) serve(handler http.HandlerFunc) (url string) {
	w.t.Helper()
	return w.serveTLS(handler, w.far.Source(w.farID).EndpointServerTLS())
}

func (w *world) serveTLS(handler http.HandlerFunc, cfg *tls.Config) (url string) {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute, ErrorLog: nil}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(tls.NewListener(l, cfg)) })
	w.t.Cleanup(func() {
		_ = srv.Close()
		wg.Wait()
	})
	return "https://" + l.Addr().String() + "/"
}

// follow makes a follower of a URL with profile https_spiffe.
func (w *world) follow(url string, change func(*bundleendpoint.FollowerOptions)) *bundleendpoint.Follower {
	w.t.Helper()
	opts := bundleendpoint.FollowerOptions{
		TrustDomain: w.far.TrustDomain(), Identity: w.source,
		Endpoint: bundleendpoint.Endpoint{URL: url, Profile: bundleendpoint.SPIFFE, SPIFFEID: w.farID.String()},
		Take:     func(document []byte) error { return w.source.SetPeerBundle(w.far.TrustDomain(), document) },
	}
	if change != nil {
		change(&opts)
	}
	f, err := bundleendpoint.NewFollower(opts)
	if err != nil {
		w.t.Fatal(err)
	}
	return f
}

// run runs a follower until stop, or the end of the test.
func run(t *testing.T, f interface{ Run(context.Context) error }) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// insecure sees what a server shows, whatever it is.
func insecure() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }
