package identity_test

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"path/filepath"
	"testing"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// feed is a Feed that a test drives.
type feed struct{ events chan any }

func newFeed() *feed { return &feed{events: make(chan any)} }

func (*feed) String() string { return "test feed" }

func (f *feed) Follow(ctx context.Context, offer func(identity.Offered), failed func(error)) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-f.events:
			switch e := e.(type) {
			case identity.Offered:
				offer(e)
			case error:
				failed(e)
			}
		}
	}
}

func (f *feed) offer(ca *identitytest.CA, svid *x509svid.SVID, more ...*x509.Certificate) {
	f.events <- identity.Offered{
		Certificates: svid.Certificates, Key: svid.PrivateKey, Authorities: append(more, ca.Certificate()),
	}
}

func certificate(svid *x509svid.SVID) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	cert := &tls.Certificate{PrivateKey: svid.PrivateKey}
	for _, c := range svid.Certificates {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
}

func noCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return new(tls.Certificate), nil
}

func TestAFeedIsHeldToTheSameRules(t *testing.T) {
	ca := identitytest.NewCA("mesh.consul")
	registry := prometheus.NewRegistry()
	cache := filepath.Join(t.TempDir(), "cache")
	f := newFeed()
	src := run(t, identity.Options{Feed: f, CacheFile: cache, Registerer: registry})
	if err := src.Ready(); err == nil {
		t.Fatal("ready before anything was offered")
	}
	first := ca.SVID(ca.ID("/svc/billing"))
	f.offer(ca, first)
	waitReady(t, src)
	if src.ID() != ca.ID("/svc/billing") {
		t.Errorf("it is %s", src.ID())
	}
	serial := src.Serial()

	// What is not good leaves what is held in use, and is told.
	other := identitytest.NewCA("mesh.consul")
	for name, bad := range map[string]identity.Offered{
		"no certificate":     {Key: first.PrivateKey, Authorities: []*x509.Certificate{ca.Certificate()}},
		"no root":            {Certificates: first.Certificates, Key: first.PrivateKey},
		"another ca's root":  {Certificates: first.Certificates, Key: first.PrivateKey, Authorities: []*x509.Certificate{other.Certificate()}},
		"another leaf's key": {Certificates: first.Certificates, Key: other.SVID(ca.ID("/x")).PrivateKey, Authorities: []*x509.Certificate{ca.Certificate()}},
		"expired":            offered(ca, ca.Expired(ca.ID("/svc/billing"))),
	} {
		f.events <- bad
		f.events <- errors.New("next") // the offer has been judged
		if src.Serial() != serial || src.Ready() != nil {
			t.Errorf("%s: it is held", name)
		}
	}
	if n := counter(t, registry, "isthmus_identity_updates_total", "origin", "feed", "outcome", "refused"); n != 5 {
		t.Errorf("%v offers are counted as refused, want 5", n)
	}
	if n := counter(t, registry, "isthmus_identity_source_failing"); n != 1 {
		t.Error("nobody is told that the feed fails")
	}

	// A rotation of the leaf below a new root.
	f.offer(other, other.SVID(ca.ID("/svc/billing")), ca.Certificate())
	eventually(t, src, "the new leaf is held", func() bool { return src.Serial() != serial })
	if _, err := src.VerifyPeer(ca.SVID(ca.ID("/svc/web")).Certificates); err != nil {
		t.Errorf("a peer of the old root: %v", err)
	}
	f.offer(other, other.SVID(ca.ID("/svc/billing")))
	eventually(t, src, "the old root is gone", func() bool {
		_, err := src.VerifyPeer(first.Certificates)
		return reason(err) == identity.ReasonUntrustedChain
	})

	// A restart while the feed is dead.
	again, err := identity.New(identity.Options{Feed: newFeed(), CacheFile: cache})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Ready(); err != nil {
		t.Errorf("after a restart: %v", err)
	}
}

func offered(ca *identitytest.CA, svid *x509svid.SVID) identity.Offered {
	return identity.Offered{Certificates: svid.Certificates, Key: crypto.Signer(svid.PrivateKey), Authorities: []*x509.Certificate{ca.Certificate()}}
}

func TestAFeedIsTheOnlySource(t *testing.T) {
	if err := (identity.Options{Feed: newFeed(), WorkloadAPI: "unix:///x"}).Validate(); err == nil {
		t.Error("beside a workload api")
	}
	if err := (identity.Options{Feed: newFeed(), Files: &identity.Files{Directory: "x"}}).Validate(); err == nil {
		t.Error("beside files")
	}
}
