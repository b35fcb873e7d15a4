package ca_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/ca"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

const (
	patience = 30 * time.Second // for what must come; no measure
	alpn     = "isthmus/1"
)

var domainA = spiffeid.RequireTrustDomainFromString("a.test")

func id(td spiffeid.TrustDomain, path string) spiffeid.ID { return spiffeid.RequireFromPath(td, path) }

// config describes a CA in a fresh directory whose socket path is short.
func config(t *testing.T, td spiffeid.TrustDomain, paths ...string) ca.Config {
	t.Helper()
	dir, err := os.MkdirTemp("", "ca")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cfg := ca.Config{
		TrustDomain: td, Dir: filepath.Join(dir, "keys"), Socket: filepath.Join(dir, "run", "api.sock"),
		BundleFile: filepath.Join(dir, "bundle.json"),
	}
	for _, p := range paths {
		cfg.Entries = append(cfg.Entries, ca.Entry{ID: id(td, p)})
	}
	return cfg
}

// start runs a CA until stop is called, or the test ends.
func start(t *testing.T, cfg ca.Config, opts ca.Options) (c *ca.CA, stop func()) {
	t.Helper()
	c, err := ca.New(cfg, opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	t.Cleanup(stop)
	wait, done := context.WithTimeout(t.Context(), patience)
	defer done()
	if err := c.WaitReady(wait); err != nil {
		t.Fatal(err)
	}
	return c, stop
}

// follow runs a Source on a Workload API until the test ends.
func follow(t *testing.T, opts identity.Options) *identity.Source {
	t.Helper()
	src, err := identity.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = src.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	wait, done := context.WithTimeout(t.Context(), patience)
	defer done()
	if err := src.WaitReady(wait); err != nil {
		t.Fatal(err)
	}
	return src
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func client(t *testing.T, c *ca.CA) *workloadapi.Client {
	t.Helper()
	cl, err := workloadapi.New(t.Context(), workloadapi.WithAddr(c.Address()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cl.Close() })
	return cl
}

func TestWorkloadAPIServesGoSPIFFE(t *testing.T) {
	cfg := config(t, domainA, "/gw", "/fed")
	cfg.Entries[1].Hint = "internal"
	reg := prometheus.NewRegistry()
	c, _ := start(t, cfg, ca.Options{Registerer: reg})
	cl := client(t, c)
	x, err := cl.FetchX509Context(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(x.SVIDs) != 2 || x.SVIDs[0].ID != cfg.Entries[0].ID || x.SVIDs[1].ID != cfg.Entries[1].ID || x.SVIDs[1].Hint != "internal" {
		t.Fatalf("got %v", x.SVIDs)
	}
	bundle, err := x.Bundles.GetX509BundleForTrustDomain(domainA)
	if err != nil || len(bundle.X509Authorities()) != 1 {
		t.Fatalf("got %v, %v", bundle, err)
	}

	// The X509-SVID specification, section by section.
	root := bundle.X509Authorities()[0]
	if !root.IsCA || !root.BasicConstraintsValid || !root.MaxPathLenZero || root.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign ||
		len(root.URIs) != 1 || root.URIs[0].String() != "spiffe://a.test" || root.CheckSignatureFrom(root) != nil {
		t.Errorf("root: %+v", root)
	}
	for _, svid := range x.SVIDs {
		if len(svid.Certificates) != 1 {
			t.Fatalf("chain of %d", len(svid.Certificates))
		}
		leaf := svid.Certificates[0]
		if leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature || len(leaf.URIs) != 1 ||
			!slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}) ||
			len(leaf.DNSNames)+len(leaf.IPAddresses)+len(leaf.EmailAddresses) != 0 {
			t.Errorf("leaf: %+v", leaf)
		}
		if key, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
			t.Errorf("key is %T", leaf.PublicKey)
		}
		if life := time.Until(leaf.NotAfter); life > ca.DefaultSVIDTTL || life < ca.DefaultSVIDTTL-time.Minute {
			t.Errorf("life is %s", life)
		}
		if time.Since(leaf.NotBefore) < time.Minute {
			t.Errorf("a clock that is a minute behind refuses it: %s", leaf.NotBefore)
		}
		if leaf.SerialNumber.BitLen() < 64 || leaf.SerialNumber.Sign() <= 0 {
			t.Errorf("serial %s", leaf.SerialNumber)
		}
	}
	again, err := cl.FetchX509Context(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if again.SVIDs[0].PrivateKey.(*ecdsa.PrivateKey).Equal(x.SVIDs[0].PrivateKey) {
		t.Error("two streams share a key")
	}
	bundles, err := cl.FetchX509Bundles(t.Context())
	if err != nil || bundles.Len() != 1 {
		t.Errorf("got %v, %v", bundles, err)
	}

	_, jwtErr := cl.FetchJWTSVID(t.Context(), jwtsvid.Params{Audience: "x", Subject: cfg.Entries[0].ID})
	_, jwtBundleErr := cl.FetchJWTBundles(t.Context())
	_, validateErr := cl.ValidateJWTSVID(t.Context(), "x", "y")
	_, witErr := cl.FetchWITSVID(t.Context(), "")
	_, witBundleErr := cl.FetchWITBundles(t.Context())
	for _, err := range []error{jwtErr, jwtBundleErr, validateErr, witErr, witBundleErr} {
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("got %v", err)
		}
	}
	if got := testutil.ToFloat64(collector(t, reg, "isthmus_ca_svids_issued_total")); got != 4 {
		t.Errorf("issued %v", got)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v %v", problems, err)
	}
}

// collector gives testutil one value of a registry.
func collector(t *testing.T, reg *prometheus.Registry, name string, labels ...string) prometheus.Collector {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "value"})
	g.Set(-1)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			ok := f.GetName() == name
			for i := 0; i+1 < len(labels); i += 2 {
				match := false
				for _, l := range m.GetLabel() {
					match = match || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
				}
				ok = ok && match
			}
			if ok {
				g.Set(m.GetCounter().GetValue() + m.GetGauge().GetValue())
			}
		}
	}
	return g
}

func TestRequestsWithoutTheSecurityHeaderAreRefused(t *testing.T) {
	reg := prometheus.NewRegistry()
	c, _ := start(t, config(t, domainA, "/gw"), ca.Options{Registerer: reg})
	conn, err := grpc.NewClient(c.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	api := workload.NewSpiffeWorkloadAPIClient(conn)
	stream, err := api.FetchX509SVID(t.Context(), &workload.X509SVIDRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("got %v", err)
	}
	if _, err := api.FetchJWTSVID(t.Context(), &workload.JWTSVIDRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("unary: got %v", err)
	}
	if got := testutil.ToFloat64(collector(t, reg, "isthmus_ca_refused_total", "reason", "header")); got != 2 {
		t.Errorf("counted %v", got)
	}
}

func TestWorkloadsAreAttestedByUID(t *testing.T) {
	nobody := uint32(65534)
	if os.Geteuid() == int(nobody) {
		nobody--
	}
	cfg := config(t, domainA)
	cfg.Entries = []ca.Entry{{ID: id(domainA, "/nobody"), UID: &nobody}}
	reg := prometheus.NewRegistry()
	c, _ := start(t, cfg, ca.Options{Registerer: reg})
	info, err := os.Stat(cfg.Socket)
	if err != nil || info.Mode().Perm() != 0o666 {
		t.Fatalf("socket for another user: %v, %v", info.Mode(), err)
	}
	if _, err := client(t, c).FetchX509SVID(t.Context()); status.Code(err) != codes.PermissionDenied {
		t.Errorf("another user's svid was given out: %v", err)
	}
	if _, err := client(t, c).FetchX509Bundles(t.Context()); status.Code(err) != codes.PermissionDenied {
		t.Errorf("bundles: %v", err)
	}
	if got := testutil.ToFloat64(collector(t, reg, "isthmus_ca_refused_total", "reason", "no_entry")); got != 2 {
		t.Errorf("counted %v", got)
	}

	own := uint32(os.Geteuid())
	if err := c.SetEntries([]ca.Entry{{ID: id(domainA, "/me")}, {ID: id(domainA, "/me"), UID: &own}}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(cfg.Socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket for the own user only: %v, %v", info.Mode(), err)
	}
	svids, err := client(t, c).FetchX509SVIDs(t.Context())
	if err != nil || len(svids) != 1 {
		t.Errorf("got %v, %v", svids, err)
	}
}

// A process of another uid gets its own identity and not ours.
func TestAnotherUIDGetsItsOwnIdentity(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can start a process of another uid; TestWorkloadsAreAttestedByUID runs everywhere")
	}
	nobody := uint32(65534)
	cfg := config(t, domainA, "/root")
	cfg.Entries = append(cfg.Entries, ca.Entry{ID: id(domainA, "/nobody"), UID: &nobody})
	c, _ := start(t, cfg, ca.Options{})
	// The test binary's own directory may be closed to others.
	dir := filepath.Dir(filepath.Dir(cfg.Socket))
	binary, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	child := filepath.Join(dir, "child")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(child, binary, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), child)
	cmd.Dir, cmd.Env = "/", []string{childSocket + "=" + c.Address()}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.Output()
	if got := strings.TrimSpace(string(out)); err != nil || got != "spiffe://a.test/nobody" {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestSetEntriesReachesOpenStreams(t *testing.T) {
	c, _ := start(t, config(t, domainA, "/gw"), ca.Options{})
	reg := prometheus.NewRegistry()
	src := follow(t, identity.Options{WorkloadAPI: c.Address(), Registerer: reg})
	serial := src.Serial()
	if err := c.SetEntries([]ca.Entry{{ID: id(domainA, "/renamed")}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new id", func() bool { return src.ID() == id(domainA, "/renamed") })
	if src.Serial() == serial {
		t.Error("the serial did not change")
	}
	if err := c.SetEntries([]ca.Entry{{ID: spiffeid.RequireFromString("spiffe://b.test/x")}}); err == nil {
		t.Error("an id of another domain was taken")
	}
	serial = src.Serial()
	if err := c.SetEntries([]ca.Entry{{ID: id(domainA, "/renamed")}, {ID: id(domainA, "/more")}}); err != nil {
		t.Fatal(err)
	}
	if err := c.SetEntries(nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stream to end", func() bool {
		return testutil.ToFloat64(collector(t, reg, "isthmus_identity_workload_api_errors_total")) > 0
	})
	if src.Ready() != nil || src.Serial() != serial {
		t.Error("an svid that had not changed was renewed, or lost")
	}
}

func TestSourceSurvivesTheCAAndFollowsItsReturn(t *testing.T) {
	cfg := config(t, domainA, "/gw")
	_, stop := start(t, cfg, ca.Options{})
	cache := filepath.Join(filepath.Dir(cfg.Dir), "cache")
	opts := identity.Options{WorkloadAPI: "unix://" + cfg.Socket, ID: id(domainA, "/gw"), CacheFile: cache}
	src := follow(t, opts)
	serial := src.Serial()
	stop()
	if _, err := os.Stat(cfg.Socket); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
	restarted := follow(t, opts) // from the cache file alone
	if restarted.Serial() != serial {
		t.Error("the cache holds another svid")
	}
	start(t, cfg, ca.Options{})
	eventually(t, "fresh svids", func() bool { return src.Serial() != serial && restarted.Serial() != serial })
	if _, err := src.VerifyPeer(peerOf(t, restarted)); err != nil {
		t.Error(err)
	}
}

// peerOf returns the chain that a source presents.
func peerOf(t *testing.T, src *identity.Source) []*x509.Certificate {
	t.Helper()
	cert, err := src.ServerTLS([]string{alpn}, identity.AuthorizeAny()).GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	return []*x509.Certificate{cert.Leaf}
}

func TestRestartKeepsRootsAndSequence(t *testing.T) {
	cfg := config(t, domainA, "/gw")
	_, stop := start(t, cfg, ca.Options{})
	before, err := os.ReadFile(cfg.BundleFile)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	c, _ := start(t, cfg, ca.Options{})
	after, err := c.Bundle()
	if err != nil || !bytes.Equal(before, after) {
		t.Fatalf("before %s, after %s, %v", before, after, err)
	}
	for path, want := range map[string]os.FileMode{
		cfg.BundleFile: 0o644, filepath.Join(cfg.Dir, "roots.state"): 0o600, cfg.Dir: 0o700, cfg.Socket: 0o600,
	} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %#o", path, info.Mode(), err, want)
		}
	}
	if _, err := ca.New(cfg, ca.Options{}); !errors.Is(err, ca.ErrInUse) {
		t.Errorf("a second ca took the directory: %v", err)
	}
}

// One flipped byte of its keys does not stop a CA: the second copy serves, with
// the roots and the number of before, and it is told.
func TestOneFlippedByteOfTheRoots(t *testing.T) {
	cfg := config(t, domainA)
	first, err := ca.New(cfg, ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	want, err := first.Bundle()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cfg.Dir, "roots.state")
	sealed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const step = 13 // the format's own test has every byte
	for i := 0; i < len(sealed); i += step {
		flipped := bytes.Clone(sealed)
		flipped[i] ^= 0x10
		if err := os.WriteFile(path, flipped, 0o600); err != nil {
			t.Fatal(err)
		}
		reg := prometheus.NewRegistry()
		c, err := ca.New(cfg, ca.Options{Registerer: reg})
		if err != nil {
			t.Fatalf("byte %d: %v", i, err)
		}
		if got, err := c.Bundle(); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("byte %d: the bundle is %s, %v", i, got, err)
		}
		if err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP isthmus_ca_damaged_files_total State files that were damaged when they were read.
# TYPE isthmus_ca_damaged_files_total counter
isthmus_ca_damaged_files_total 1
`), "isthmus_ca_damaged_files_total"); err != nil {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
}

func TestUnusableStateStopsTheStart(t *testing.T) {
	tests := map[string]func(path string, cfg *ca.Config) error{
		"corrupt": func(path string, _ *ca.Config) error {
			data, err := os.ReadFile(path)
			data[len(data)-3] ^= 1 // of each copy
			data[3] ^= 1
			return errors.Join(err, os.WriteFile(path, data, 0o600))
		},
		"empty":              func(path string, _ *ca.Config) error { return os.Truncate(path, 0) },
		"readable by others": func(path string, _ *ca.Config) error { return os.Chmod(path, 0o644) },
		"another domain": func(_ string, cfg *ca.Config) error {
			cfg.TrustDomain = spiffeid.RequireTrustDomainFromString("b.test")
			return nil
		},
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := config(t, domainA)
			if _, err := ca.New(cfg, ca.Options{}); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(cfg.Dir, "roots.state")
			if err := spoil(path, &cfg); err != nil {
				t.Fatal(err)
			}
			before, _ := os.ReadFile(path)
			_, err := ca.New(cfg, ca.Options{})
			if !errors.Is(err, ca.ErrState) || !strings.Contains(err.Error(), path) {
				t.Fatalf("got %v", err)
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
				t.Error("the file was overwritten")
			}
		})
	}
	cfg := config(t, domainA)
	if err := errors.Join(os.MkdirAll(cfg.Dir, 0o700), os.Chmod(cfg.Dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	if _, err := ca.New(cfg, ca.Options{}); err == nil {
		t.Error("a directory that others can write was taken")
	}
}
