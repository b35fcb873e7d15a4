package identity_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

func TestPeerBundleRules(t *testing.T) {
	a, b := identitytest.NewCA("a.test"), identitytest.NewCA("b.test")
	td := b.TrustDomain()
	leaf := b.SVID(b.ID("/x")).Certificates[0]
	numbered := func(seq uint64) []byte { return b.BundleJSON(seq) }
	unnumbered, err := identity.Bundle{TrustDomain: td, Authorities: b.Bundle().X509Authorities()}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		held []byte // set before; nil for none
		doc  []byte
		td   spiffeid.TrustDomain
		want error
	}{
		{"first", nil, numbered(0), td, nil},
		{"newer", numbered(5), numbered(6), td, nil},
		{"same again", numbered(5), numbered(5), td, nil},
		{"first number after none", unnumbered, numbered(1), td, nil},
		{"sequence goes back", numbered(5), numbered(4), td, identity.ErrSequenceRollback},
		{"number dropped", numbered(5), unnumbered, td, identity.ErrSequenceRollback},
		{"other content under the same number", numbered(5), identitytest.BundleJSON(td, 5, identitytest.NewCA("b.test").Certificate()), td, identity.ErrSequenceRollback},
		{"empty keys", numbered(5), []byte(`{"keys":[],"spiffe_sequence":9}`), td, identity.ErrEmptyBundle},
		{"only jwt keys", numbered(5), []byte(`{"spiffe_sequence":9,"keys":[{"use":"jwt-svid","kid":"x","kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}`), td, identity.ErrEmptyBundle},
		{"keys missing", numbered(5), []byte(`{"spiffe_sequence":9}`), td, identity.ErrMalformedBundle},
		{"no json", numbered(5), []byte(`<html>502</html>`), td, identity.ErrMalformedBundle},
		{"nothing", numbered(5), nil, td, identity.ErrMalformedBundle},
		{"a leaf as authority", nil, identitytest.BundleJSON(td, 9, leaf), td, identity.ErrMalformedBundle},
		{"an authority of another domain", nil, identitytest.BundleJSON(td, 9, a.Certificate()), td, identity.ErrMalformedBundle},
		{"larger than 1 MiB", nil, append(numbered(9), bytes.Repeat([]byte{' '}, identity.MaxBundleBytes)...), td, identity.ErrTooLarge},
		{"own trust domain", nil, a.BundleJSON(9), a.TrustDomain(), identity.ErrOwnTrustDomain},
		{"no trust domain", nil, numbered(9), spiffeid.TrustDomain{}, identity.ErrMalformedBundle},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := a.Source(a.ID("/gw"))
			if tt.held != nil {
				if err := src.SetPeerBundle(td, tt.held); err != nil {
					t.Fatal(err)
				}
			}
			before := src.Bundles()
			err := src.SetPeerBundle(tt.td, tt.doc)
			if !errors.Is(err, tt.want) || (tt.want == nil) != (err == nil) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			_, verr := src.VerifyPeer(b.SVID(b.ID("/gw")).Certificates)
			if good := tt.held != nil || tt.want == nil; good != (verr == nil) {
				t.Errorf("after it: %v", verr)
			}
			if after := src.Bundles(); tt.want != nil && !equalStatus(before, after) {
				t.Errorf("a refused bundle changed %v to %v", before, after)
			}
		})
	}
}

func equalStatus(a, b []identity.BundleStatus) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestTooManyTrustDomains(t *testing.T) {
	a := identitytest.NewCA("a.test")
	src := a.Source(a.ID("/gw"))
	for i := range 258 {
		td := spiffeid.RequireTrustDomainFromString("d" + string(rune('a'+i/26)) + string(rune('a'+i%26)) + ".test")
		doc := identitytest.BundleJSON(td, 1, identitytest.NewCA(td.Name()).Certificate())
		err := src.SetPeerBundle(td, doc)
		if (i < 256) != (err == nil) || err != nil && !errors.Is(err, identity.ErrTooManyTrustDomains) {
			t.Fatalf("domain %d: %v", i, err)
		}
	}
	if n := len(src.Bundles()); n != 257 {
		t.Fatalf("%d bundles are held", n)
	}
}

func TestTheWorkloadAPIWinsOverAPeer(t *testing.T) {
	a := identitytest.NewCA("a.test")
	admin, peer := identitytest.NewCA("b.test"), identitytest.NewCA("b.test")
	td, gw := admin.TrustDomain(), a.ID("/gw")
	w := identitytest.NewWorkloadAPI(t, identitytest.Answer{SVIDs: []*x509svid.SVID{a.SVID(gw)}, Bundles: bundles(a.Bundle())})
	src := run(t, identity.Options{WorkloadAPI: w.Address(), ID: gw})
	waitReady(t, src)
	trusts := func(ca *identitytest.CA) bool {
		_, err := src.VerifyPeer(ca.SVID(ca.ID("/gw")).Certificates)
		return err == nil
	}
	if err := src.SetPeerBundle(td, peer.BundleJSON(5)); err != nil {
		t.Fatal(err)
	}
	if !trusts(peer) || trusts(admin) {
		t.Fatal("the peer's bundle is not in force")
	}
	w.Set(identitytest.Answer{SVIDs: []*x509svid.SVID{a.SVID(gw)}, Bundles: bundles(a.Bundle(), admin.Bundle())})
	eventually(t, src, "the workload api's bundle", func() bool { return trusts(admin) })
	if trusts(peer) {
		t.Fatal("two bundles of one domain are in force: pooled")
	}
	// Hidden, but still under the rule of its sequence, and back when it is alone.
	if err := src.SetPeerBundle(td, peer.BundleJSON(4)); !errors.Is(err, identity.ErrSequenceRollback) {
		t.Fatalf("got %v", err)
	}
	w.Set(identitytest.Answer{SVIDs: []*x509svid.SVID{a.SVID(gw)}, Bundles: bundles(a.Bundle())})
	eventually(t, src, "the peer's bundle again", func() bool { return trusts(peer) && !trusts(admin) })
}

func TestTrustBundleTravelsToAPeerAndIsNumbered(t *testing.T) {
	a, b := identitytest.NewCA("a.test"), identitytest.NewCA("b.test")
	renewed := identitytest.NewCA("a.test")
	gw := a.ID("/gw")
	w := identitytest.NewWorkloadAPI(t, identitytest.Answer{SVIDs: []*x509svid.SVID{a.SVID(gw)}, Bundles: bundles(a.Bundle())})
	src := run(t, identity.Options{WorkloadAPI: w.Address(), ID: gw})
	waitReady(t, src)
	first, err := src.TrustBundle()
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Sequence uint64 `json:"spiffe_sequence"`
		Hint     int64  `json:"spiffe_refresh_hint"`
		Keys     []struct {
			Use string   `json:"use"`
			X5C []string `json:"x5c"`
		} `json:"keys"`
	}
	if err := json.Unmarshal(first, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Hint != 300 || len(doc.Keys) != 1 || doc.Keys[0].Use != "x509-svid" || len(doc.Keys[0].X5C) != 1 || doc.Sequence == 0 {
		t.Fatalf("got %s", first)
	}
	peer := b.Source(b.ID("/gw"))
	if err := peer.SetPeerBundle(a.TrustDomain(), first); err != nil {
		t.Fatal(err)
	}
	both := a.Bundle()
	both.AddX509Authority(renewed.Certificate())
	w.Set(identitytest.Answer{SVIDs: []*x509svid.SVID{a.SVID(gw)}, Bundles: bundles(both)})
	var second []byte
	eventually(t, src, "a second root", func() bool {
		second, err = src.TrustBundle()
		return err == nil && !bytes.Equal(first, second)
	})
	if err := peer.SetPeerBundle(a.TrustDomain(), second); err != nil {
		t.Fatalf("the next bundle is no successor: %v", err)
	}
	if _, err := peer.VerifyPeer(renewed.SVID(gw).Certificates); err != nil {
		t.Fatal(err)
	}
	if err := peer.SetPeerBundle(a.TrustDomain(), first); !errors.Is(err, identity.ErrSequenceRollback) {
		t.Fatalf("got %v", err)
	}
}

func TestNextSequence(t *testing.T) {
	at := func(seconds int64) time.Time { return time.Unix(seconds, 0) }
	ca := identitytest.NewCA("a.test")
	old, next := *ca.Certificate(), *ca.Certificate()
	old.NotBefore, next.NotBefore = at(1000), at(2000)
	one := identity.NextSequence(0, certificates(&old))
	two := identity.NextSequence(one, certificates(&old, &next))
	three := identity.NextSequence(two, certificates(&next))
	withdrawn := identity.NextSequence(two, certificates(&old))
	if one != 1000*256+254 || two != 2000*256+253 || three != 2000*256+254 || withdrawn != two+1 {
		t.Fatalf("got %d, %d, %d, %d", one, two, three, withdrawn)
	}
	// Another process that has seen less numbers the same content alike.
	if again := identity.NextSequence(0, certificates(&next)); again != three {
		t.Fatalf("got %d, want %d", again, three)
	}
	before := *ca.Certificate()
	before.NotBefore = at(-5)
	if got := identity.NextSequence(7, certificates(&before)); got != 254 {
		t.Fatalf("got %d", got)
	}
}

func FuzzParseBundle(f *testing.F) {
	ca := identitytest.NewCA("a.test")
	f.Add(ca.BundleJSON(1))
	f.Add(bytes.Replace(ca.BundleJSON(1), []byte(`"spiffe_refresh_hint":`), []byte(`"spiffe_refresh_hint":1844674407`), 1))
	f.Add([]byte(`{"keys":[]}`))
	f.Add([]byte(`{"keys":[{"use":"x509-svid","x5c":["AAAA"]}],"spiffe_sequence":-1,"spiffe_refresh_hint":9223372036854775807}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		b, err := identity.ParseBundle(ca.TrustDomain(), document)
		if err != nil {
			for _, known := range []error{identity.ErrMalformedBundle, identity.ErrEmptyBundle, identity.ErrTooLarge} {
				if errors.Is(err, known) {
					return
				}
			}
			t.Fatalf("untyped error %v", err)
		}
		if len(b.Authorities) == 0 || b.RefreshHint < 0 {
			t.Fatalf("got %+v", b)
		}
		out, err := b.Marshal()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		again, err := identity.ParseBundle(ca.TrustDomain(), out)
		if err != nil || identity.CheckSuccessor(b, again) != nil || again.Sequence != b.Sequence || again.RefreshHint != b.RefreshHint {
			t.Fatalf("round trip: %+v, %+v, %v", b, again, err)
		}
	})
}
