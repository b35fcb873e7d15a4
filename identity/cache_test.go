package identity_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

func TestCacheRestartsWithTheWorkloadAPIDead(t *testing.T) {
	a, b, c := identitytest.NewCA("a.test"), identitytest.NewCA("b.test"), identitytest.NewCA("c.test")
	gw := a.ID("/gw")
	path := filepath.Join(t.TempDir(), "identity.cache")
	w := identitytest.NewWorkloadAPI(t, identitytest.Answer{SVIDs: []*x509svid.SVID{a.SVID(gw)}, Bundles: bundles(a.Bundle(), b.Bundle())})
	opts := identity.Options{WorkloadAPI: w.Address(), ID: gw, CacheFile: path}
	first := run(t, opts)
	waitReady(t, first)
	if err := first.SetPeerBundle(c.TrustDomain(), c.BundleJSON(7)); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("cache file: %v, %v", info, err)
	}
	w.Kill()

	second := run(t, opts)
	if err := second.Ready(); err != nil { // without waiting
		t.Fatal(err)
	}
	if second.Serial() != first.Serial() || second.ID() != gw {
		t.Fatalf("got %s of %s", second.Serial(), second.ID())
	}
	for _, ca := range []*identitytest.CA{a, b, c} {
		if _, err := second.VerifyPeer(ca.SVID(ca.ID("/x")).Certificates); err != nil {
			t.Errorf("bundle of %s is lost: %v", ca.TrustDomain(), err)
		}
	}
	if err := second.SetPeerBundle(c.TrustDomain(), c.BundleJSON(6)); !errors.Is(err, identity.ErrSequenceRollback) {
		t.Errorf("sequence was forgotten over the restart: %v", err)
	}
	one, err1 := first.TrustBundle()
	two, err2 := second.TrustBundle()
	if err1 != nil || err2 != nil || string(one) != string(two) {
		t.Errorf("own bundle changed over the restart: %s %s", one, two)
	}
	cc, ss := tcpPair(t)
	cerr, serr := handshake(t, second.ClientTLS([]string{alpn}, identity.AuthorizeAny()), first.ServerTLS([]string{alpn}, identity.AuthorizeIDs(gw)), cc, ss)
	if cerr != nil || serr != nil {
		t.Errorf("handshake from cache: %v, %v", cerr, serr)
	}
	second.RemovePeerBundle(c.TrustDomain())
	third, err := identity.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := third.VerifyPeer(c.SVID(c.ID("/x")).Certificates); reason(err) != identity.ReasonUnknownTrustDomain {
		t.Errorf("a removed bundle came back from the cache: %v", err)
	}
}

func TestBadCachesAreRefusedAndReplaced(t *testing.T) {
	a := identitytest.NewCA("a.test")
	gw := a.ID("/gw")
	// cacheOf writes what a source of that svid keeps.
	cacheOf := func(t *testing.T, svid *x509svid.SVID, bundle *x509bundle.Bundle, path string) {
		t.Helper()
		w := identitytest.NewWorkloadAPI(t, identitytest.Answer{SVIDs: []*x509svid.SVID{svid}, Bundles: bundles(bundle)})
		src := run(t, identity.Options{WorkloadAPI: w.Address(), CacheFile: path})
		waitReady(t, src)
		w.Kill()
	}
	edit := func(t *testing.T, path string, f func([]byte) []byte) {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name  string
		spoil func(t *testing.T, path string)
		want  error
	}{
		{"a byte of both copies changed", func(t *testing.T, path string) {
			edit(t, path, func(b []byte) []byte { b[0] ^= 1; b[len(b)-1] ^= 1; return b })
		}, identity.ErrCacheCorrupt},
		{"cut short", func(t *testing.T, path string) {
			edit(t, path, func(b []byte) []byte { return b[:len(b)-10] })
		}, identity.ErrCacheCorrupt},
		{"empty", func(t *testing.T, path string) {
			edit(t, path, func([]byte) []byte { return nil })
		}, identity.ErrCacheCorrupt},
		{"another format", func(t *testing.T, path string) {
			edit(t, path, func([]byte) []byte { return []byte("isthmus-identity-cache 2 sha256:00\n{}") })
		}, identity.ErrCacheCorrupt},
		{"readable by others", func(t *testing.T, path string) {
			if err := os.Chmod(path, 0o640); err != nil {
				t.Fatal(err)
			}
		}, identity.ErrCacheMode},
		{"a symbolic link", func(t *testing.T, path string) {
			if err := errors.Join(os.Rename(path, path+".real"), os.Symlink(path+".real", path)); err != nil {
				t.Fatal(err)
			}
		}, identity.ErrCacheMode},
		{"a directory", func(t *testing.T, path string) {
			if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
				t.Fatal(err)
			}
		}, identity.ErrCacheMode},
		{"another id", func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			cacheOf(t, a.SVID(a.ID("/other")), a.Bundle(), path)
		}, identity.ErrCacheID},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "cache")
			cacheOf(t, a.SVID(gw), a.Bundle(), path)
			tt.spoil(t, path)
			reg, log := prometheus.NewRegistry(), &logBuffer{}
			w := identitytest.NewWorkloadAPI(t, identitytest.Answer{SVIDs: []*x509svid.SVID{a.SVID(gw)}, Bundles: bundles(a.Bundle())})
			src, err := identity.New(identity.Options{WorkloadAPI: w.Address(), ID: gw, CacheFile: path, Registerer: reg, Log: log.logger()})
			if err != nil {
				t.Fatal(err)
			}
			err = src.Ready()
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), path) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if !src.NotAfter().IsZero() || src.ID() != gw || counter(t, reg, "isthmus_identity_cache_errors_total") != 1 || !strings.Contains(log.String(), "identity cache refused") {
				t.Fatalf("id %s, log %s", src.ID(), log)
			}
		})
	}
}

func TestExpiredCacheKeepsItsBundles(t *testing.T) {
	a, b := identitytest.NewCA("a.test"), identitytest.NewCA("b.test")
	gw := a.ID("/gw")
	path := filepath.Join(t.TempDir(), "cache")
	svid := a.Mint(identitytest.Leaf{URIs: []string{gw.String()}, NotAfter: time.Now().Add(time.Hour)})
	w := identitytest.NewWorkloadAPI(t, identitytest.Answer{SVIDs: []*x509svid.SVID{svid}, Bundles: bundles(a.Bundle())})
	opts := identity.Options{WorkloadAPI: w.Address(), ID: gw, CacheFile: path}
	first := run(t, opts)
	waitReady(t, first)
	if err := first.SetPeerBundle(b.TrustDomain(), b.BundleJSON(3)); err != nil {
		t.Fatal(err)
	}
	w.Kill()

	opts.Now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	second, err := identity.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Ready(); !errors.Is(err, identity.ErrCacheExpired) {
		t.Fatalf("got %v", err)
	}
	if err := second.SetPeerBundle(b.TrustDomain(), b.BundleJSON(2)); !errors.Is(err, identity.ErrSequenceRollback) {
		t.Fatalf("sequence was forgotten: %v", err)
	}
}

// A byte of the cache flips while nobody is there to give an SVID: the second copy
// serves, and the damage is logged and counted.
func TestACacheWithAFlippedByteServes(t *testing.T) {
	a := identitytest.NewCA("a.test")
	gw := a.ID("/gateway")
	path := filepath.Join(t.TempDir(), "cache")
	w := identitytest.NewWorkloadAPI(t, identitytest.Answer{SVIDs: []*x509svid.SVID{a.SVID(gw)}, Bundles: bundles(a.Bundle())})
	waitReady(t, run(t, identity.Options{WorkloadAPI: w.Address(), CacheFile: path}))
	w.Kill()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[100] ^= 4
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	reg, log := prometheus.NewRegistry(), &logBuffer{}
	src, err := identity.New(identity.Options{
		WorkloadAPI: "unix://" + filepath.Join(t.TempDir(), "nobody"), ID: gw, CacheFile: path, Registerer: reg, Log: log.logger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := src.Ready(); err != nil || src.ID() != gw {
		t.Errorf("%s is not ready: %v", src.ID(), err)
	}
	if counter(t, reg, "isthmus_identity_cache_errors_total") != 1 || !strings.Contains(log.String(), "identity cache was damaged") {
		t.Errorf("nobody was told: %s", log)
	}
}
