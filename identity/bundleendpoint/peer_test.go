package bundleendpoint_test

import (
	"context"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/bundleendpoint"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/federation"
)

// go-spiffe's handler is the far end of our follower, through the rotation of its
// root, with the new root signing the endpoint's own SVID afterwards.
func TestFollowerKeepsUpWithGoSPIFFE(t *testing.T) {
	w := newWorld(t).pin()
	published, err := spiffebundle.Parse(w.far.TrustDomain(), w.far.BundleJSON(1))
	if err != nil {
		t.Fatal(err)
	}
	handler, err := federation.NewHandler(w.far.TrustDomain(), published)
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	metrics, err := bundleendpoint.NewMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	states := make(chan bundleendpoint.State, 16)
	file := filepath.Join(t.TempDir(), "far.test")
	url := w.serve(handler.ServeHTTP)
	f := w.follow(url, func(o *bundleendpoint.FollowerOptions) {
		o.Metrics, o.File = metrics, file
		o.Changed = func(s bundleendpoint.Status) { states <- s.State }
	})
	stop := run(t, f)
	eventually(t, "the first fetch", func() bool { return f.Status().State == bundleendpoint.OK })

	next := identitytest.NewCA("far.test")
	published.AddX509Authority(next.Certificate())
	published.SetSequenceNumber(2)
	f.Nudge()
	eventually(t, "the next root", func() bool { return w.sequence() == 2 })
	if _, err := w.source.VerifyPeer(next.SVID(w.farID).Certificates); err != nil {
		t.Errorf("a leaf below the new root: %v", err)
	}
	// The publisher goes back, as after a restore from an old backup.
	published.SetSequenceNumber(1)
	f.Nudge()
	eventually(t, "the step back is refused", func() bool { return f.Status().State == bundleendpoint.Failing })
	if w.sequence() != 2 || f.Status().Sequence != 2 {
		t.Errorf("the bundle in force has number %d, the status says %d", w.sequence(), f.Status().Sequence)
	}
	if n, err := testutil.GatherAndCount(reg); err != nil || n != 5 {
		t.Errorf("%d series, %v", n, err)
	}
	stop()
	if n, err := testutil.GatherAndCount(reg); err != nil || n != 1 { // of no trust domain: isthmus_bundle_damaged_files_total
		t.Errorf("%d series are left, %v", n, err)
	}
	close(states)
	if got := slices.Collect(values(states)); !slices.Equal(got, []bundleendpoint.State{bundleendpoint.OK, bundleendpoint.Failing}) {
		t.Errorf("states were %v", got)
	}

	// A restart with nobody at the far end: what was good is in force.
	again := newWorld(t)
	again.far, again.farID = w.far, w.farID
	g := again.follow(url, func(o *bundleendpoint.FollowerOptions) { o.File = file })
	if again.sequence() != 2 || g.Status().Sequence != 2 || g.Status().FetchedAt.IsZero() {
		t.Errorf("after a restart the bundle has number %d, the status is %+v", again.sequence(), g.Status())
	}
	// What another endpoint left is nobody's. A flipped byte costs nothing, one of
	// each copy is refused.
	other := newWorld(t)
	other.far, other.farID = w.far, w.farID
	other.follow("https://elsewhere.test/", func(o *bundleendpoint.FollowerOptions) { o.File = file })
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for flips, want := range []uint64{0, 2, 0} {
		spoiled, fresh := slices.Clone(data), newWorld(t)
		fresh.far, fresh.farID = w.far, w.farID
		for i := range flips {
			spoiled[i*len(data)/2] ^= 1
		}
		if flips == 0 {
			spoiled = []byte("nothing of ours")
		}
		if err := os.WriteFile(file, spoiled, 0o600); err != nil {
			t.Fatal(err)
		}
		fresh.follow(url, func(o *bundleendpoint.FollowerOptions) { o.File = file })
		if fresh.sequence() != want {
			t.Errorf("%d flipped bytes: took number %d, want %d", flips, fresh.sequence(), want)
		}
	}
}

func values[T any](ch <-chan T) func(func(T) bool) {
	return func(yield func(T) bool) {
		for v := range ch {
			if !yield(v) {
				return
			}
		}
	}
}

func startServer(t *testing.T, opts bundleendpoint.ServerOptions) (url string) {
	t.Helper()
	s, err := bundleendpoint.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", opts.Config.Address)
	if err != nil {
		t.Fatal(err)
	}
	run(t, serving{s, l})
	return "https://" + l.Addr().String() + "/"
}

type serving struct {
	server *bundleendpoint.Server
	l      net.Listener
}

// Run serves on the listener.
func (s serving) Run(ctx context.Context) error { return s.server.Serve(ctx, s.l) }

// go-spiffe fetches from our server with both profiles.
func TestGoSPIFFEFetchesFromServer(t *testing.T) {
	far := identitytest.NewCA("far.test")
	id := far.ID("/isthmus/cluster/far")
	source := far.Source(id)
	check := func(t *testing.T, b *spiffebundle.Bundle, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		want, err := source.TrustBundle()
		if err != nil {
			t.Fatal(err)
		}
		got, err := b.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		wantBundle, err := spiffebundle.Parse(far.TrustDomain(), want)
		if err != nil || !b.Equal(wantBundle) {
			t.Errorf("got %s, want %s, %v", got, want, err)
		}
	}
	t.Run("https_spiffe", func(t *testing.T) {
		reg := prometheus.NewRegistry()
		url := startServer(t, bundleendpoint.ServerOptions{
			Config: bundleendpoint.ServerConfig{Address: "127.0.0.1:0", Profile: bundleendpoint.SPIFFE}, Identity: source, Registerer: reg,
		})
		b, err := federation.FetchBundle(t.Context(), far.TrustDomain(), url, federation.WithSPIFFEAuth(far.Bundle(), id))
		check(t, b, err)
		if _, err := federation.FetchBundle(t.Context(), far.TrustDomain(), url, federation.WithSPIFFEAuth(far.Bundle(), far.ID("/other"))); err == nil {
			t.Error("another id passed")
		}
		got := testutil.CollectAndCount(reg)
		if got != 3 {
			t.Errorf("%d series", got)
		}
	})
	t.Run("https_web", func(t *testing.T) {
		cert := writeWebCert(t, t.TempDir(), nil)
		url := startServer(t, bundleendpoint.ServerOptions{
			Config:   bundleendpoint.ServerConfig{Address: "127.0.0.1:0", Profile: bundleendpoint.Web, CertFile: cert.cert, KeyFile: cert.key},
			Identity: source,
		})
		roots := x509.NewCertPool()
		roots.AddCert(cert.pair.Leaf)
		b, err := federation.FetchBundle(t.Context(), far.TrustDomain(), url, federation.WithWebPKIRoots(roots))
		check(t, b, err)
	})
}

// Server and follower together, with https_web and a certificate that is renewed
// under way; a bad one leaves the good one in use.
func TestWebCertificateIsReadAgain(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	cert := writeWebCert(t, dir, nil)
	url := startServer(t, bundleendpoint.ServerOptions{
		Config:   bundleendpoint.ServerConfig{Address: "127.0.0.1:0", Profile: bundleendpoint.Web, CertFile: cert.cert, KeyFile: cert.key},
		Identity: w.far.Source(w.farID),
	})
	shown := func() string {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: insecure(), DisableKeepAlives: true}}
		resp, err := client.Get(url)
		if err != nil {
			return err.Error()
		}
		_ = resp.Body.Close()
		return resp.TLS.PeerCertificates[0].SerialNumber.String()
	}
	first := shown()
	if first != cert.pair.Leaf.SerialNumber.String() {
		t.Fatalf("shown is %s", first)
	}
	// A key that does not fit, as between the two writes of a renewal.
	good, err := os.ReadFile(cert.key)
	if err != nil {
		t.Fatal(err)
	}
	other := writeWebCert(t, t.TempDir(), nil)
	stray, err := os.ReadFile(other.key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cert.key, stray, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := shown(); got != first {
		t.Errorf("shown is %s", got)
	}
	if err := os.WriteFile(cert.key, good, 0o600); err != nil {
		t.Fatal(err)
	}
	renewed := writeWebCert(t, dir, nil)
	eventually(t, "the renewed certificate is shown", func() bool { return shown() == renewed.pair.Leaf.SerialNumber.String() })

	f := w.follow(url, func(o *bundleendpoint.FollowerOptions) {
		o.Endpoint = bundleendpoint.Endpoint{URL: url, Profile: bundleendpoint.Web, CAFile: renewed.ca}
	})
	run(t, f)
	eventually(t, "the follower has the bundle", func() bool { return f.Status().State == bundleendpoint.OK })
	if w.sequence() == 0 {
		t.Error("no bundle is held")
	}
}

func TestBadWebCertificateDoesNotStart(t *testing.T) {
	source := identitytest.NewCA("far.test")
	id := source.Source(source.ID("/x"))
	for name, change := range map[string]func(*x509.Certificate){
		"expired": func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(1) },
		"no host": func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, nil },
		"a ca":    func(c *x509.Certificate) { c.IsCA = true },
	} {
		t.Run(name, func(t *testing.T) {
			cert := writeWebCert(t, t.TempDir(), change)
			_, err := bundleendpoint.NewServer(bundleendpoint.ServerOptions{Identity: id, Config: bundleendpoint.ServerConfig{
				Address: "127.0.0.1:0", Profile: bundleendpoint.Web, CertFile: cert.cert, KeyFile: cert.key,
			}})
			if err == nil || !strings.Contains(err.Error(), cert.cert) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestServerAnswersOneQuestion(t *testing.T) {
	far := identitytest.NewCA("far.test")
	id := far.ID("/isthmus/cluster/far")
	source := far.Source(id)
	url := startServer(t, bundleendpoint.ServerOptions{
		Config: bundleendpoint.ServerConfig{Address: "127.0.0.1:0", Profile: bundleendpoint.SPIFFE}, Identity: source,
	})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: source.EndpointClientTLS(identity.AuthorizeIDs(id)), DisableKeepAlives: true}}
	for _, c := range []struct {
		method, path string
		want         int
	}{{"GET", "", 200}, {"HEAD", "", 200}, {"GET", "bundle", 404}, {"GET", "?x=1", 200}, {"POST", "", 405}, {"DELETE", "", 405}, {"GET", "../", 404}} {
		req, err := http.NewRequestWithContext(context.Background(), c.method, url+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s %q: %d, want %d: %s", c.method, c.path, resp.StatusCode, c.want, body)
		}
		if c.want == 200 && resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s %q: an answer may be cached", c.method, c.path)
		}
	}
}
