package ca_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/ca"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

var domainB = spiffeid.RequireTrustDomainFromString("b.test")

// Two CAs that read each other's bundle file: processes of both domains authenticate
// each other, and neither CA can speak for the other's domain.
func TestTwoTrustDomainsExchangeBundlesByFile(t *testing.T) {
	t.Parallel()
	a, b := config(t, domainA, "/gw"), config(t, domainB, "/gw")
	a.Federated = []ca.Federated{{TrustDomain: domainB, BundleFile: b.BundleFile}}
	b.Federated = []ca.Federated{{TrustDomain: domainA, BundleFile: a.BundleFile}}
	ca1, _ := start(t, a, ca.Options{}) // before b's file is there
	ca2, _ := start(t, b, ca.Options{})
	one := follow(t, identity.Options{WorkloadAPI: ca1.Address()})
	two := follow(t, identity.Options{WorkloadAPI: ca2.Address()})
	eventually(t, "both bundles on both sides", func() bool { return len(one.Bundles()) == 2 && len(two.Bundles()) == 2 })
	if err := exchange(t, one, two); err != nil {
		t.Fatal(err)
	}
	if err := exchange(t, two, one); err != nil {
		t.Fatal(err)
	}
	// The documents that travel over links carry the number that the CA's file has.
	file, err := os.ReadFile(a.BundleFile)
	if err != nil {
		t.Fatal(err)
	}
	link, err := one.TrustBundle()
	if err != nil {
		t.Fatal(err)
	}
	byFile, err1 := identity.ParseBundle(domainA, file)
	byLink, err2 := identity.ParseBundle(domainA, link)
	if err1 != nil || err2 != nil || byFile.Sequence != byLink.Sequence || byFile.Sequence == 0 {
		t.Fatalf("sequence %d in the file, %d over the link, %v, %v", byFile.Sequence, byLink.Sequence, err1, err2)
	}

	// A CA of domain a that issues an ID of domain b, which one trusts.
	forged := identitytest.NewCA("a.test").SVID(id(domainB, "/gw"))
	if _, err := one.VerifyPeer(forged.Certificates); !isReason(err, identity.ReasonUntrustedChain) {
		t.Fatalf("got %v", err)
	}
}

func isReason(err error, want identity.Reason) bool {
	pe, ok := errors.AsType[*identity.PeerError](err)
	return ok && pe.Reason == want
}

func TestFederatedFilesKeepTheLastGood(t *testing.T) {
	t.Parallel()
	peer, renewed := identitytest.NewCA("b.test"), identitytest.NewCA("b.test")
	cfg := config(t, domainA, "/gw")
	path := filepath.Join(filepath.Dir(cfg.Dir), "b.json")
	cfg.Federated = []ca.Federated{{TrustDomain: domainB, BundleFile: path}}
	// By rename, as whoever writes such a file should.
	write := func(doc []byte) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path+".new", doc, 0o644), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	write(peer.BundleJSON(5))
	reg := prometheus.NewRegistry()
	c, stop := start(t, cfg, ca.Options{Registerer: reg})
	src := follow(t, identity.Options{WorkloadAPI: c.Address()})
	trusts := func(ca *identitytest.CA) bool {
		_, err := src.VerifyPeer(ca.SVID(ca.ID("/gw")).Certificates)
		return err == nil
	}
	if !trusts(peer) {
		t.Fatal("the bundle that was there from the start is not in force")
	}
	refused := func() float64 {
		return testutil.ToFloat64(collector(t, reg, "isthmus_ca_federated_refused_total", "trust_domain", "b.test"))
	}
	for name, doc := range map[string][]byte{
		"empty keys":                 []byte(`{"keys":[],"spiffe_sequence":9}`),
		"older":                      renewed.BundleJSON(4),
		"same number, other content": renewed.BundleJSON(5),
		"garbage":                    []byte("<html>"),
		"nothing":                    {},
		"larger than 1 MiB":          append(renewed.BundleJSON(9), strings.Repeat(" ", identity.MaxBundleBytes)...),
		"another domain's root":      identitytest.BundleJSON(domainB, 9, identitytest.NewCA("c.test").Certificate()),
	} {
		before := max(refused(), 0)
		write(doc)
		eventually(t, name+": refusal", func() bool { return refused() > before })
		if !trusts(peer) || trusts(renewed) {
			t.Fatalf("%s: the last good bundle is not in force any more", name)
		}
	}
	before := refused()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "missing: refusal", func() bool { return refused() > before })
	if !trusts(peer) {
		t.Fatal("missing: the last good bundle is not in force any more")
	}
	stop()
	write(renewed.BundleJSON(4)) // older than what was in force before the restart
	c, _ = start(t, cfg, ca.Options{})
	eventually(t, "the source's return", func() bool {
		_, err := client(t, c).FetchX509SVID(t.Context())
		return err == nil
	})
	bundles, err := client(t, c).FetchX509Bundles(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	held, err := bundles.GetX509BundleForTrustDomain(domainB)
	if err != nil || !held.HasX509Authority(peer.Certificate()) || held.HasX509Authority(renewed.Certificate()) {
		t.Fatalf("the restart took an older bundle: %v, %v", held, err)
	}
	write(renewed.BundleJSON(6))
	eventually(t, "the next bundle", func() bool { return trusts(renewed) && !trusts(peer) })
}

func TestConfigReportsEveryProblem(t *testing.T) {
	if err := config(t, domainA, "/gw").Validate(); err != nil {
		t.Fatal(err)
	}
	cfg := ca.Config{
		TrustDomain: domainA, Socket: "run/" + strings.Repeat("x", 10), SVIDTTL: time.Second, CATTL: time.Minute * 60 * 24 * 365 * 11,
		Entries: []ca.Entry{
			{}, {ID: id(domainB, "/x")}, {ID: domainA.ID()}, {ID: id(domainA, "/twice")}, {ID: id(domainA, "/twice")},
		},
		Federated: []ca.Federated{{}, {TrustDomain: domainA, BundleFile: "x"}, {TrustDomain: domainB, BundleFile: "x"}, {TrustDomain: domainB, BundleFile: "x"}},
	}
	err := cfg.Validate()
	for _, want := range []string{
		"dir:", "socket: run/", "svid_ttl: 1s", "ca_ttl:", "entries[0].id", "entries[1].id: spiffe://b.test/x: must be of trust domain a.test",
		"entries[2].id", "entries[4].id", "federated[0].trust_domain", "federated[0].bundle_file", "federated[1].trust_domain", "federated[3].trust_domain",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not reported: %v", want, err)
		}
	}
	long := config(t, domainA)
	long.Socket = "/" + strings.Repeat("x", 103)
	if err := long.Validate(); err == nil {
		t.Error("a socket path that the kernel cannot hold was taken")
	}
	if _, err := ca.New(ca.Config{}, ca.Options{}); err == nil || !strings.Contains(err.Error(), "trust_domain: ''") {
		t.Errorf("got %v", err)
	}
}
