package identity_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// folder is a directory in which a test plays the program that keeps the files.
type folder struct {
	t   *testing.T
	dir string
}

func newFolder(t *testing.T) folder { return folder{t, t.TempDir()} }

func (f folder) path(name string) string { return filepath.Join(f.dir, name) }

// put writes in place, as os.WriteFile does: truncate, then write.
func (f folder) put(name string, data []byte, mode os.FileMode) {
	f.t.Helper()
	if err := errors.Join(os.WriteFile(f.path(name), data, mode), os.Chmod(f.path(name), mode)); err != nil {
		f.t.Fatal(err)
	}
}

// helper writes an identity as spiffe-helper does: three files, one by one.
func (f folder) helper(svid *x509svid.SVID, roots ...*x509.Certificate) {
	f.t.Helper()
	certs, key := pemOf(f.t, svid)
	f.put("svid.pem", certs, 0o644)
	f.put("svid_key.pem", key, 0o600)
	f.put("svid_bundle.pem", pemCertificates(roots), 0o644)
}

func pemOf(t *testing.T, svid *x509svid.SVID) (certs, key []byte) {
	t.Helper()
	certs, key, err := svid.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return certs, key
}

func pemCertificates(certs []*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

func sec1(t *testing.T, svid *x509svid.SVID) []byte {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(svid.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

// follow runs a source of files in the test's bubble.
func follow(t *testing.T, opts identity.Options) (src *identity.Source, stop func()) {
	t.Helper()
	src, err := identity.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- src.Run(ctx) }()
	return src, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
}

// settle passes time enough for the files to be read and judged.
func settle() {
	time.Sleep(3 * time.Second)
	synctest.Wait()
}

func TestFilesOfBothConventions(t *testing.T) {
	a := identitytest.NewCA("a.test")
	sub := a.Intermediate("a.test")
	gw := a.ID("/gw")
	for _, tt := range []struct {
		name  string
		write func(f folder) *x509svid.SVID
		files func(f folder) *identity.Files
	}{
		{name: "spiffe-helper", write: func(f folder) *x509svid.SVID {
			svid := sub.SVID(gw)
			f.helper(svid, a.Certificate())
			return svid
		}},
		{name: "cert-manager with a sec 1 key", write: func(f folder) *x509svid.SVID {
			svid := sub.SVID(gw)
			certs, _ := pemOf(f.t, svid)
			f.put("tls.crt", certs, 0o644)
			f.put("tls.key", sec1(f.t, svid), 0o640)
			f.put("ca.crt", pemCertificates([]*x509.Certificate{a.Certificate()}), 0o644)
			return svid
		}},
		{name: "three names", write: func(f folder) *x509svid.SVID {
			svid := a.SVID(gw)
			certs, key := pemOf(f.t, svid)
			f.put("c", certs, 0o600)
			f.put("k", append([]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"), key...), 0o400)
			f.put("b", a.Certificate().Raw, 0o600) // no PEM, at first
			f.put("b", pemCertificates([]*x509.Certificate{a.Certificate()}), 0o600)
			return svid
		}, files: func(f folder) *identity.Files {
			return &identity.Files{Certificate: f.path("c"), Key: f.path("k"), Bundle: f.path("b")}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFolder(t)
				svid := tt.write(f)
				files := &identity.Files{Directory: f.dir}
				if tt.files != nil {
					files = tt.files(f)
				}
				src, stop := follow(t, identity.Options{Files: files, ID: gw})
				defer stop()
				settle()
				if err := src.Ready(); err != nil {
					t.Fatal(err)
				}
				if want := fmt.Sprintf("%x", svid.Certificates[0].SerialNumber); src.Serial() != want || src.ID() != gw {
					t.Fatalf("serves %s of %s, want %s", src.Serial(), src.ID(), want)
				}
				if _, err := src.VerifyPeer(sub.SVID(a.ID("/x")).Certificates); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestFilesThatAreNoIdentity: each state is refused with the file and the rule,
// and what was held goes on serving.
func TestFilesThatAreNoIdentity(t *testing.T) {
	a, b := identitytest.NewCA("a.test"), identitytest.NewCA("b.test")
	gw := a.ID("/gw")
	fresh := a.SVID(gw)
	certs, key := pemOf(t, fresh)
	roots := pemCertificates([]*x509.Certificate{a.Certificate()})
	_, otherKey := pemOf(t, a.SVID(gw))
	for _, tt := range []struct {
		name  string
		spoil func(f folder)
		want  error
		says  []string
	}{
		{"certificate gone", func(f folder) { _ = os.Remove(f.path("svid.pem")) }, identity.ErrFilesMissing, []string{"svid.pem", "tls.crt"}},
		{"key gone", func(f folder) { _ = os.Remove(f.path("svid_key.pem")) }, identity.ErrFilesMissing, []string{"svid_key.pem"}},
		{"bundle gone", func(f folder) { _ = os.Remove(f.path("svid_bundle.pem")) }, identity.ErrFilesMissing, []string{"svid_bundle.pem"}},
		{"all gone", func(f folder) { _ = os.RemoveAll(f.dir) }, identity.ErrFilesMissing, []string{"svid.pem"}},
		{"certificate empty", func(f folder) { f.put("svid.pem", nil, 0o644) }, identity.ErrFilesMalformed, []string{"svid.pem", "no certificate"}},
		{"certificate cut", func(f folder) { f.put("svid.pem", certs[:len(certs)/2], 0o644) }, identity.ErrFilesMalformed, []string{"svid.pem", "no whole pem block"}},
		{"certificate new, key old", func(f folder) { f.put("svid.pem", certs, 0o644) }, identity.ErrKeyMismatch, []string{"svid_key.pem", "svid.pem"}},
		{"key new, certificate old", func(f folder) { f.put("svid_key.pem", key, 0o600) }, identity.ErrKeyMismatch, []string{"svid_key.pem"}},
		{"key cut", func(f folder) { f.put("svid_key.pem", otherKey[:len(otherKey)-9], 0o600) }, identity.ErrFilesMalformed, []string{"svid_key.pem", "private key"}},
		{"key is a certificate", func(f folder) { f.put("svid_key.pem", certs, 0o600) }, identity.ErrFilesMalformed, []string{"svid_key.pem", "no private key"}},
		{"key in the certificate's file", func(f folder) { f.put("svid.pem", append(bytes.Clone(certs), key...), 0o600) }, identity.ErrFilesMalformed, []string{"svid.pem", "CERTIFICATE only"}},
		{"key readable by all", func(f folder) { _ = os.Chmod(f.path("svid_key.pem"), 0o644) }, identity.ErrFilesMode, []string{"svid_key.pem", "0644", "027"}},
		{"key writable by the group", func(f folder) { _ = os.Chmod(f.path("svid_key.pem"), 0o660) }, identity.ErrFilesMode, []string{"svid_key.pem", "0660"}},
		{"bundle writable by all", func(f folder) { _ = os.Chmod(f.path("svid_bundle.pem"), 0o666) }, identity.ErrFilesMode, []string{"svid_bundle.pem", "0666"}},
		{"bundle is a folder", func(f folder) {
			_ = os.Remove(f.path("svid_bundle.pem"))
			_ = os.Mkdir(f.path("svid_bundle.pem"), 0o700)
		}, identity.ErrFilesMode, []string{"svid_bundle.pem", "no regular file"}},
		{"bundle is a fifo", func(f folder) {
			_ = os.Remove(f.path("svid_bundle.pem"))
			_ = syscall.Mkfifo(f.path("svid_bundle.pem"), 0o600)
		}, identity.ErrFilesMode, []string{"svid_bundle.pem", "no regular file"}},
		{"bundle huge", func(f folder) { f.put("svid_bundle.pem", bytes.Repeat(roots, 2000), 0o644) }, nil, []string{"svid_bundle.pem", "larger than"}},
		{"bundle of leaves", func(f folder) { f.put("svid_bundle.pem", certs, 0o644) }, identity.ErrMalformedBundle, []string{"not a ca"}},
		{"bundle of another ca", func(f folder) {
			f.put("svid_bundle.pem", pemCertificates([]*x509.Certificate{identitytest.NewCA("a.test").Certificate()}), 0o644)
		}, identity.ErrUnusableSVID, []string{"svid.pem"}},
		{"bundle with a foreign ca", func(f folder) {
			f.put("svid_bundle.pem", pemCertificates([]*x509.Certificate{a.Certificate(), b.Certificate()}), 0o644)
		}, identity.ErrMalformedBundle, []string{"another trust domain"}},
		{"expired", func(f folder) { f.helper(a.Expired(gw), a.Certificate()) }, identity.ErrUnusableSVID, []string{"svid.pem"}},
		{"not yet valid", func(f folder) { f.helper(a.NotYetValid(gw), a.Certificate()) }, identity.ErrUnusableSVID, []string{"svid.pem"}},
		{"of another id", func(f folder) { f.helper(a.SVID(a.ID("/other")), a.Certificate()) }, identity.ErrIDNotOffered, []string{"svid.pem", "/other"}},
		{"without an id", func(f folder) { f.helper(a.NoSAN(), a.Certificate()) }, identity.ErrFilesMalformed, []string{"svid.pem"}},
		{"with two ids", func(f folder) { f.helper(a.TwoURIs(gw, a.ID("/x")), a.Certificate()) }, identity.ErrFilesMalformed, []string{"svid.pem"}},
		{"a ca as leaf", func(f folder) { f.helper(a.CAAsLeaf(gw), a.Certificate()) }, identity.ErrUnusableSVID, []string{"svid.pem"}},
		{"both conventions", func(f folder) { f.put("tls.crt", certs, 0o644) }, identity.ErrFilesMalformed, []string{"svid.pem", "tls.crt"}},
		{"a link to nowhere", func(f folder) {
			_ = os.Remove(f.path("svid_key.pem"))
			_ = os.Symlink("nowhere", f.path("svid_key.pem"))
		}, identity.ErrFilesMissing, []string{"svid_key.pem"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFolder(t)
				f.helper(a.SVID(gw), a.Certificate())
				reg, log := prometheus.NewRegistry(), &logBuffer{}
				opts := identity.Options{Files: &identity.Files{Directory: f.dir}, ID: gw, Registerer: reg, Log: log.logger()}
				src, stop := follow(t, opts)
				defer stop()
				settle()
				serial := src.Serial()
				if src.Ready() != nil || serial == "" {
					t.Fatalf("not ready before: %v", src.Ready())
				}
				tt.spoil(f)
				settle()
				if src.Serial() != serial || src.Ready() != nil {
					t.Errorf("the last good is lost: %s, %v", src.Serial(), src.Ready())
				}
				if n := counter(t, reg, "isthmus_identity_updates_total", "origin", "files", "outcome", "refused"); n != 1 {
					t.Errorf("%v refusals counted, want 1", n)
				}
				if counter(t, reg, "isthmus_identity_source_failing") != 1 {
					t.Error("the source is not said to fail")
				}
				for _, says := range tt.says {
					if !strings.Contains(log.String(), says) {
						t.Errorf("the log lacks %q: %s", says, log)
					}
				}

				// A process that starts now says the same.
				late, stopLate := follow(t, identity.Options{Files: opts.Files, ID: gw})
				defer stopLate()
				settle()
				err := late.Ready()
				if missing, ok := errors.AsType[*identity.NotReadyError](err); !ok || missing.Files != f.dir || (tt.want != nil && !errors.Is(err, tt.want)) {
					t.Errorf("Ready: %v, want %v", err, tt.want)
				}
				for _, says := range tt.says {
					if err == nil || !strings.Contains(err.Error(), says) {
						t.Errorf("Ready lacks %q: %v", says, err)
					}
				}

				// And what is put right is taken.
				_ = os.RemoveAll(f.dir)
				if err := os.Mkdir(f.dir, 0o700); err != nil {
					t.Fatal(err)
				}
				f.helper(fresh, a.Certificate())
				settle()
				if src.Serial() == serial || late.Ready() != nil || counter(t, reg, "isthmus_identity_source_failing") != 0 {
					t.Errorf("not taken when good again: %v", late.Ready())
				}
			})
		})
	}
}

// TestFilesSwappedAsKubernetesDoes: every file is a link through ..data, which is
// replaced in one step.
func TestFilesSwappedAsKubernetesDoes(t *testing.T) {
	a := identitytest.NewCA("a.test")
	gw := a.ID("/gw")
	synctest.Test(t, func(t *testing.T) {
		f := newFolder(t)
		version := 0
		mount := func(svid *x509svid.SVID) {
			version++
			name := fmt.Sprintf("..2026_%d", version)
			if err := os.Mkdir(f.path(name), 0o700); err != nil {
				t.Fatal(err)
			}
			in := folder{t, f.path(name)}
			certs, _ := pemOf(t, svid)
			in.put("tls.crt", certs, 0o644)
			in.put("tls.key", sec1(t, svid), 0o440)
			in.put("ca.crt", pemCertificates([]*x509.Certificate{a.Certificate()}), 0o644)
			if err := errors.Join(os.Symlink(name, f.path("..data_tmp")), os.Rename(f.path("..data_tmp"), f.path("..data"))); err != nil {
				t.Fatal(err)
			}
		}
		mount(a.SVID(gw))
		for _, name := range []string{"tls.crt", "tls.key", "ca.crt"} {
			if err := os.Symlink(filepath.Join("..data", name), f.path(name)); err != nil {
				t.Fatal(err)
			}
		}
		reg := prometheus.NewRegistry()
		src, stop := follow(t, identity.Options{Files: &identity.Files{Directory: f.dir}, ID: gw, Registerer: reg})
		defer stop()
		settle()
		for range 20 {
			serial := src.Serial()
			mount(a.SVID(gw))
			_ = os.RemoveAll(f.path(fmt.Sprintf("..2026_%d", version-1)))
			settle()
			if src.Serial() == serial {
				t.Fatal("a swap was not seen")
			}
		}
		if n := counter(t, reg, "isthmus_identity_updates_total", "origin", "files", "outcome", "refused"); n != 0 {
			t.Errorf("%v refusals", n)
		}
	})
}

// TestHalfWrittenFilesAreNeverTaken writes an identity byte by byte, slower and
// faster than it is read. In particular a bundle of two roots is, for a moment, a
// good bundle of one.
func TestHalfWrittenFilesAreNeverTaken(t *testing.T) {
	a, second := identitytest.NewCA("a.test"), identitytest.NewCA("a.test")
	gw := a.ID("/gw")
	old, fresh := a.SVID(gw), a.SVID(gw)
	both := pemCertificates([]*x509.Certificate{a.Certificate(), second.Certificate()})
	for _, pace := range []time.Duration{time.Microsecond, 300 * time.Microsecond, 70 * time.Millisecond} {
		t.Run(pace.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFolder(t)
				f.helper(old, a.Certificate(), second.Certificate())
				src, stop := follow(t, identity.Options{Files: &identity.Files{Directory: f.dir}, ID: gw})
				defer stop()
				settle()
				serials := map[string]bool{}
				look := func() {
					serials[src.Serial()] = true
					for _, ca := range []*identitytest.CA{a, second} {
						if _, err := src.VerifyPeer(ca.SVID(a.ID("/peer")).Certificates); err != nil {
							t.Fatalf("while a file is written: %v", err)
						}
					}
				}
				certs, key := pemOf(t, fresh)
				for name, data := range map[string][]byte{"svid.pem": certs, "svid_key.pem": key, "svid_bundle.pem": both} {
					w, err := os.OpenFile(f.path(name), os.O_WRONLY|os.O_TRUNC, 0)
					if err != nil {
						t.Fatal(err)
					}
					for i := 0; i < len(data); i += 16 {
						if _, err := w.Write(data[i:min(i+16, len(data))]); err != nil {
							t.Fatal(err)
						}
						time.Sleep(pace)
						look()
					}
					_ = w.Close()
				}
				settle()
				look()
				if len(serials) != 2 || src.Serial() != fmt.Sprintf("%x", fresh.Certificates[0].SerialNumber) {
					t.Errorf("served %v, now %s", serials, src.Serial())
				}
			})
		})
	}
}

// TestABundleIsNotTakenBetweenTwoOfItsRoots holds each rewriting for a moment at
// the one place where a part of it looks whole, at every phase of the reading.
func TestABundleIsNotTakenBetweenTwoOfItsRoots(t *testing.T) {
	a, second := identitytest.NewCA("a.test"), identitytest.NewCA("a.test")
	gw := a.ID("/gw")
	synctest.Test(t, func(t *testing.T) {
		f := newFolder(t)
		f.helper(a.SVID(gw), a.Certificate(), second.Certificate())
		src, stop := follow(t, identity.Options{Files: &identity.Files{Directory: f.dir}, ID: gw})
		defer stop()
		settle()
		one := pemCertificates([]*x509.Certificate{a.Certificate()})
		both := pemCertificates([]*x509.Certificate{a.Certificate(), second.Certificate()})
		for range 60 {
			f.put("svid_bundle.pem", one, 0o644)
			time.Sleep(200 * time.Millisecond)
			f.put("svid_bundle.pem", both, 0o644)
			time.Sleep(1830 * time.Millisecond)
			if n := src.Bundles()[0].Authorities; n != 2 {
				t.Fatalf("%d roots are trusted", n)
			}
			if _, err := src.VerifyPeer(second.SVID(a.ID("/peer")).Certificates); err != nil {
				t.Fatal(err)
			}
		}
		if n := src.Bundles()[0]; !n.Updated.Before(time.Now().Add(-time.Minute)) {
			t.Errorf("the bundle changed at %s", n.Updated)
		}
		f.put("svid_bundle.pem", one, 0o644) // a root that stays away is gone
		settle()
		if n := src.Bundles()[0].Authorities; n != 1 {
			t.Errorf("%d roots are trusted, want 1", n)
		}
	})
}

func TestFederatedFiles(t *testing.T) {
	a, b, c := identitytest.NewCA("a.test"), identitytest.NewCA("b.test"), identitytest.NewCA("c.test")
	gw := a.ID("/gw")
	synctest.Test(t, func(t *testing.T) {
		f := newFolder(t)
		f.helper(a.SVID(gw), a.Certificate())
		f.put("b.json", b.BundleJSON(7), 0o644)
		f.put("own.json", a.BundleJSON(1), 0o644)
		opts := identity.Options{ID: gw, CacheFile: f.path("cache"), Files: &identity.Files{Directory: f.dir, Federated: []identity.FederatedFile{
			{TrustDomain: b.TrustDomain(), BundleFile: f.path("b.json")},
			{TrustDomain: c.TrustDomain(), BundleFile: f.path("c.json")},
			{TrustDomain: a.TrustDomain(), BundleFile: f.path("own.json")},
		}}}
		log := &logBuffer{}
		opts.Log = log.logger()
		src, stop := follow(t, opts)
		defer func() { stop() }()
		settle()
		trusts := func(ca *identitytest.CA, want bool) {
			t.Helper()
			if _, err := src.VerifyPeer(ca.SVID(ca.ID("/x")).Certificates); (err == nil) != want {
				t.Errorf("peer of %s: %v, want trusted: %v", ca.TrustDomain(), err, want)
			}
		}
		if err := src.Ready(); err != nil {
			t.Fatal(err) // a federated file that is missing keeps nobody from serving
		}
		trusts(b, true)
		trusts(c, false)
		for _, says := range []string{"c.json", "own.json", "own trust domain"} {
			if !strings.Contains(log.String(), says) {
				t.Errorf("the log lacks %q: %s", says, log)
			}
		}
		f.put("c.json", c.BundleJSON(1), 0o644)
		settle()
		trusts(c, true)

		renewed := identitytest.NewCA("b.test")
		for _, bad := range []struct {
			name string
			data []byte
		}{
			{"empty", nil},
			{"cut", b.BundleJSON(8)[:100]},
			{"without keys", []byte(`{"keys":[],"spiffe_sequence":9}`)},
			{"older", renewed.BundleJSON(6)},
			{"same number, other content", renewed.BundleJSON(7)},
			{"of another domain", c.BundleJSON(9)},
		} {
			f.put("b.json", bad.data, 0o644)
			settle()
			trusts(b, true)
			if t.Failed() {
				t.Fatalf("after a bundle that is %s", bad.name)
			}
		}
		_ = os.Remove(f.path("b.json"))
		settle()
		trusts(b, true)
		f.put("b.json", renewed.BundleJSON(8), 0o644)
		settle()
		trusts(b, false)
		trusts(renewed, true)

		// The number outlives a restart.
		stop()
		f.put("b.json", b.BundleJSON(7), 0o644)
		src, stop = follow(t, opts)
		settle()
		trusts(renewed, true)
		trusts(b, false)
	})
}

func TestStandingOfFiles(t *testing.T) {
	a := identitytest.NewCA("a.test")
	gw := a.ID("/gw")
	synctest.Test(t, func(t *testing.T) {
		f, log, reg := newFolder(t), &logBuffer{}, prometheus.NewRegistry()
		short := func() *x509svid.SVID {
			return a.Mint(identitytest.Leaf{URIs: []string{gw.String()}, NotBefore: time.Now().Add(-time.Second), NotAfter: time.Now().Add(time.Hour)})
		}
		opts := identity.Options{Files: &identity.Files{Directory: f.dir}, ID: gw, Registerer: reg, Log: log.logger()}
		src, stop := follow(t, opts)
		defer stop()
		stands := func(want identity.Standing, alarm float64, says ...string) {
			t.Helper()
			synctest.Wait()
			got, err := src.Standing()
			if got != want || (err == nil) != (want == identity.StandingGood) {
				t.Errorf("stands %s (%v), want %s", got, err, want)
			}
			if counter(t, reg, "isthmus_identity_svid_renewal_overdue") != alarm {
				t.Errorf("alarm is not %v", alarm)
			}
			for _, says := range says {
				if err == nil || !strings.Contains(err.Error(), says) {
					t.Errorf("%v does not say %q", err, says)
				}
			}
		}
		settle()
		stands(identity.StandingNone, 0, f.dir)
		f.helper(short(), a.Certificate())
		settle()
		stands(identity.StandingGood, 0)
		// The helper dies and its files stay as they are: late at 60 %.
		time.Sleep(35 * time.Minute)
		stands(identity.StandingGood, 0)
		time.Sleep(2 * time.Minute)
		stands(identity.StandingDegraded, 1, f.dir, "nothing newer")
		if err := src.Ready(); err != nil {
			t.Errorf("degraded is not unready: %v", err)
		}
		f.helper(short(), a.Certificate())
		settle()
		stands(identity.StandingGood, 0)
		// The files go: late at half of what was left.
		_ = os.Remove(f.path("svid_key.pem"))
		settle()
		time.Sleep(29 * time.Minute)
		stands(identity.StandingGood, 0)
		time.Sleep(2 * time.Minute)
		stands(identity.StandingDegraded, 1, "svid_key.pem")
		time.Sleep(time.Hour)
		stands(identity.StandingExpired, 1, "svid_key.pem")
		if err := src.Ready(); reason(err) != identity.ReasonOwnSVIDExpired {
			t.Errorf("Ready: %v", err)
		}
		f.helper(short(), a.Certificate())
		settle()
		stands(identity.StandingGood, 0)
		for _, line := range []string{`"level":"ERROR","msg":"svid renewal overdue"`, `"level":"ERROR","msg":"svid expired"`, "svid renewal caught up"} {
			if !strings.Contains(log.String(), line) {
				t.Errorf("the log lacks %s", line)
			}
		}
	})
}

func TestFilesOptionsReportEveryProblem(t *testing.T) {
	td := spiffeid.RequireTrustDomainFromString("b.test")
	_, err := identity.New(identity.Options{WorkloadAPI: "unix:///x", Files: &identity.Files{
		Directory: "/d", Key: "/k", Federated: []identity.FederatedFile{{TrustDomain: td, BundleFile: "/b"}, {TrustDomain: td}, {}},
	}})
	for _, says := range []string{
		"beside files", `key: "/k": must not be set beside directory`, "federated[1].trust_domain",
		"federated[1].bundle_file", "federated[2].trust_domain",
	} {
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v does not say %q", err, says)
		}
	}
	_, err = identity.New(identity.Options{Files: &identity.Files{Certificate: "/c"}})
	if err == nil || !strings.Contains(err.Error(), "bundle:") || !strings.Contains(err.Error(), "key:") || strings.Contains(err.Error(), "certificate:") {
		t.Errorf("got %v", err)
	}
}
