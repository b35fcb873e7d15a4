package identity_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
)

var transcript = []byte("what both ends know")

func newKey(t *testing.T, kind string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case "ecdsa p-256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ecdsa p-384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ecdsa p-521":
		key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "rsa":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// prover and verifier of two trust domains that trust each other.
func provers(t *testing.T, leaf identitytest.Leaf) (ca *identitytest.CA, prover, verifier *identity.Source, id spiffeid.ID) {
	t.Helper()
	ca = identitytest.NewCA("a.test")
	other := identitytest.NewCA("b.test")
	id = ca.ID("/gw")
	if leaf.URIs == nil {
		leaf.URIs = []string{id.String()}
	}
	prover = identity.NewStatic(ca.Mint(leaf), ca.Bundle(), other.Bundle())
	verifier = other.Source(other.ID("/gw"), ca.Bundle())
	return ca, prover, verifier, id
}

func TestProofsOfEveryKindOfKey(t *testing.T) {
	for _, kind := range []string{"ecdsa p-256", "ecdsa p-384", "ed25519", "rsa"} {
		t.Run(kind, func(t *testing.T) {
			_, prover, verifier, id := provers(t, identitytest.Leaf{Key: newKey(t, kind)})
			p, leaf, err := prover.Prove(transcript)
			if err != nil {
				t.Fatal(err)
			}
			if leaf != prover.Certificate() {
				t.Error("the leaf is not the current one")
			}
			chain, err := verifier.VerifyProof(p, transcript, id, identity.AuthorizeIDs(id))
			if err != nil || len(chain) != 1 || !chain[0].Equal(leaf) {
				t.Fatalf("chain %v, %v", chain, err)
			}
			for name, change := range map[string]func(*identity.Proof, *[]byte){
				"another transcript":     func(_ *identity.Proof, tr *[]byte) { *tr = []byte("what only one end knows") },
				"a longer transcript":    func(_ *identity.Proof, tr *[]byte) { *tr = append(bytes.Clone(*tr), 0) },
				"a bit of the signature": func(p *identity.Proof, _ *[]byte) { p.Signature[len(p.Signature)/2] ^= 1 },
				"half a signature":       func(p *identity.Proof, _ *[]byte) { p.Signature = p.Signature[:len(p.Signature)/2] },
				"no signature":           func(p *identity.Proof, _ *[]byte) { p.Signature = nil },
				"half a chain":           func(p *identity.Proof, _ *[]byte) { p.Chain = p.Chain[:len(p.Chain)-1] },
				"bytes after the chain":  func(p *identity.Proof, _ *[]byte) { p.Chain = append(p.Chain, 0) },
				"a chain of megabytes":   func(p *identity.Proof, _ *[]byte) { p.Chain = make([]byte, 1<<20) },
			} {
				bad := identity.Proof{Chain: bytes.Clone(p.Chain), Signature: bytes.Clone(p.Signature)}
				tr := transcript
				change(&bad, &tr)
				_, err := verifier.VerifyProof(bad, tr, id, identity.AuthorizeAny())
				if e, ok := errors.AsType[*identity.PeerError](err); !ok || e.Reason != identity.ReasonBadProof {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

func TestKeysThatProveNothing(t *testing.T) {
	_, prover, _, _ := provers(t, identitytest.Leaf{Key: newKey(t, "ecdsa p-521")})
	if _, _, err := prover.Prove(transcript); !errors.Is(err, identity.ErrUnsupportedKey) {
		t.Errorf("p-521: %v", err)
	}
	_, expired, _, _ := provers(t, identitytest.Leaf{NotAfter: time.Now().Add(-time.Minute)})
	_, _, err := expired.Prove(transcript)
	if e, ok := errors.AsType[*identity.PeerError](err); !ok || e.Reason != identity.ReasonOwnSVIDExpired {
		t.Errorf("expired: %v", err)
	}
}

// A good signature by a bad certificate is refused for what is bad about it, as in
// a handshake.
func TestProofsOfBadCertificates(t *testing.T) {
	ca := identitytest.NewCA("a.test")
	forged := identitytest.NewCA("a.test")
	unknown := identitytest.NewCA("c.test")
	id := ca.ID("/gw")
	now := time.Now()
	verifier := ca.Source(ca.ID("/verifier"))
	for name, c := range map[string]struct {
		svid *x509svid.SVID
		want identity.Reason
	}{
		"another id of the domain":     {ca.SVID(ca.ID("/other")), identity.ReasonChangedID},
		"another authority":            {forged.SVID(id), identity.ReasonUntrustedChain},
		"a domain that is not known":   {unknown.SVID(unknown.ID("/gw")), identity.ReasonUnknownTrustDomain},
		"an authority as a leaf":       {ca.CAAsLeaf(id), identity.ReasonNotLeaf},
		"two ids":                      {ca.TwoURIs(id, ca.ID("/other")), identity.ReasonMalformedID},
		"no id":                        {ca.NoSAN(), identity.ReasonMalformedID},
		"a certificate of tomorrow":    {ca.NotYetValid(id), identity.ReasonNotYetValid},
		"an intermediate of elsewhere": {ca.Intermediate("c.test").SVID(id), identity.ReasonUntrustedChain},
	} {
		p, _, err := identity.NewStatic(c.svid, ca.Bundle()).Prove(transcript)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, err = verifier.VerifyProof(p, transcript, id, identity.AuthorizeAny())
		if e, ok := errors.AsType[*identity.PeerError](err); !ok || e.Reason != c.want || e.ID.IsZero() != (c.want == identity.ReasonMalformedID) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	// One that ends between signing and checking.
	p, _, err := identity.NewStatic(ca.Mint(identitytest.Leaf{URIs: []string{id.String()}, NotAfter: now.Add(time.Hour)}), ca.Bundle()).Prove(transcript)
	if err != nil {
		t.Fatal(err)
	}
	late, err := identity.New(identity.Options{WorkloadAPI: "unix:///nowhere", Now: func() time.Time { return now.Add(2 * time.Hour) }})
	if err != nil {
		t.Fatal(err)
	}
	if err := late.SetPeerBundle(ca.TrustDomain(), ca.BundleJSON(1)); err != nil {
		t.Fatal(err)
	}
	_, err = late.VerifyProof(p, transcript, id, identity.AuthorizeAny())
	if e, ok := errors.AsType[*identity.PeerError](err); !ok || e.Reason != identity.ReasonExpired {
		t.Errorf("expired: %v", err)
	}
	for name, authorize := range map[string]identity.Authorizer{"nobody": nil, "another": identity.AuthorizeIDs(ca.ID("/x"))} {
		_, err := verifier.VerifyProof(p, transcript, id, authorize)
		if e, ok := errors.AsType[*identity.PeerError](err); !ok || e.Reason != identity.ReasonUnauthorized {
			t.Errorf("%s admitted: %v", name, err)
		}
	}
}

// The same key signs handshakes and proofs: neither may pass for the other. What
// TLS 1.3 signs is 64 spaces, its own context and a hash (RFC 8446, 4.4.3).
func TestProofsAreNotHandshakeSignatures(t *testing.T) {
	key := newKey(t, "ecdsa p-256")
	ca, prover, verifier, id := provers(t, identitytest.Leaf{Key: key})
	svid := ca.Mint(identitytest.Leaf{URIs: []string{id.String()}, Key: key})
	for _, context := range []string{"TLS 1.3, server CertificateVerify", "TLS 1.3, client CertificateVerify", "Exported Authenticator"} {
		content := append([]byte(strings.Repeat(" ", 64)+context+"\x00"), transcript...)
		digest := sha256.Sum256(content)
		signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		_, err = verifier.VerifyProof(identity.Proof{Chain: svid.Certificates[0].Raw, Signature: signature}, transcript, id, identity.AuthorizeAny())
		if e, ok := errors.AsType[*identity.PeerError](err); !ok || e.Reason != identity.ReasonBadProof {
			t.Errorf("%s: %v", context, err)
		}
	}
	// Nor is a proof good for another certificate of the same key.
	p, _, err := prover.Prove(transcript)
	if err != nil {
		t.Fatal(err)
	}
	p.Chain = svid.Certificates[0].Raw
	if _, err := verifier.VerifyProof(p, transcript, id, identity.AuthorizeAny()); err == nil {
		t.Error("a proof was moved to another certificate")
	}
}

func TestProofsCarryTheirIntermediates(t *testing.T) {
	ca := identitytest.NewCA("a.test")
	id := ca.ID("/gw")
	p, _, err := identity.NewStatic(ca.Intermediate("a.test").SVID(id), ca.Bundle()).Prove(transcript)
	if err != nil {
		t.Fatal(err)
	}
	verifier := ca.Source(ca.ID("/verifier"))
	chain, err := verifier.VerifyProof(p, transcript, id, identity.AuthorizeAny())
	if err != nil || len(chain) != 2 {
		t.Fatalf("%d certificates, %v", len(chain), err)
	}
	if _, err := verifier.VerifyPeer(chain); err != nil {
		t.Errorf("swept later: %v", err)
	}
}

func TestReplaceStatic(t *testing.T) {
	ca, next := identitytest.NewCA("a.test"), identitytest.NewCA("a.test")
	id := ca.ID("/gw")
	s := ca.Source(id)
	updates, cancel := s.Updates()
	defer cancel()
	before := s.Certificate()
	fresh := next.SVID(id)
	both := x509bundle.FromX509Authorities(ca.TrustDomain(), []*x509.Certificate{ca.Certificate(), next.Certificate()})
	if err := s.ReplaceStatic(fresh, both); err != nil {
		t.Fatal(err)
	}
	select {
	case <-updates:
	default:
		t.Error("nobody was told")
	}
	if s.Certificate() == before || !s.Certificate().Equal(fresh.Certificates[0]) {
		t.Error("the certificate is the one before")
	}
	for _, svid := range []*x509svid.SVID{ca.SVID(id), fresh} {
		if _, err := s.VerifyPeer(svid.Certificates); err != nil {
			t.Errorf("%v", err)
		}
	}
	if err := s.ReplaceStatic(fresh, next.Bundle()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.VerifyPeer(ca.SVID(id).Certificates); err == nil {
		t.Error("an authority that left is still trusted")
	}
	live, err := identity.New(identity.Options{WorkloadAPI: "unix:///nowhere"})
	if err != nil {
		t.Fatal(err)
	}
	if live.Certificate() != nil {
		t.Error("a certificate out of nothing")
	}
	if err := live.ReplaceStatic(fresh, next.Bundle()); !errors.Is(err, identity.ErrNotStatic) {
		t.Errorf("a workload api's: %v", err)
	}
}

func FuzzVerifyProof(f *testing.F) {
	ca := identitytest.NewCA("a.test")
	id := ca.ID("/gw")
	verifier := ca.Source(ca.ID("/verifier"))
	p, _, err := ca.Source(id).Prove(transcript)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p.Chain, p.Signature)
	f.Add([]byte{0x30, 0x80}, []byte{})
	f.Fuzz(func(t *testing.T, chain, signature []byte) {
		got, err := verifier.VerifyProof(identity.Proof{Chain: chain, Signature: signature}, transcript, id, identity.AuthorizeAny())
		if err == nil && (!bytes.Equal(chain, p.Chain) || len(got) != 1) {
			t.Fatal("a forged proof was taken")
		}
		if _, ok := errors.AsType[*identity.PeerError](err); err != nil && !ok {
			t.Fatalf("untyped refusal: %v", err)
		}
	})
}
