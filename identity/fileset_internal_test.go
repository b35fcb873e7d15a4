package identity

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// FuzzFiles parses what four files hold. Whatever they do, an offer that comes out
// has one SVID with a canonical ID whose key fits, and goes through accept.
func FuzzFiles(f *testing.F) {
	st, now := cachedState(f)
	certs, key, err := st.svid.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	var roots []byte
	for _, c := range st.api[st.domain()].authorities {
		roots = append(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	document, err := st.api[st.domain()].document().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(certs, key, roots, document)
	f.Add(certs[:len(certs)-1], key, roots, []byte("{}"))
	f.Add(append(bytes.Clone(certs), roots...), key[1:], append(bytes.Clone(roots), roots...), []byte(nil))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), []byte("-----BEGIN EC PARAMETERS-----\n-----END EC PARAMETERS-----\n"), certs, []byte(`{"keys":[]}`))
	other := spiffeid.RequireTrustDomainFromString("b.test")
	f.Fuzz(func(t *testing.T, certificate, private, bundle, document []byte) {
		set := fileSet{
			paths: naming{"c", "k", "b"}, certificate: certificate, key: private, bundle: bundle,
			federated: []federatedDocument{{FederatedFile: FederatedFile{TrustDomain: other, BundleFile: "d"}, document: document}},
		}
		o, err := set.offer()
		if err != nil {
			return
		}
		svid := o.svids[0]
		if id, err := leafID(svid.Certificates[0]); err != nil || id != svid.ID {
			t.Fatalf("id %s of a leaf with %s, %v", svid.ID, id, err)
		}
		public, err := x509.MarshalPKIXPublicKey(svid.PrivateKey.Public())
		if err != nil || !bytes.Equal(public, svid.Certificates[0].RawSubjectPublicKeyInfo) {
			t.Fatalf("key of another certificate: %v", err)
		}
		if svid.ID.TrustDomain() != other && (o.unread[other] == nil) == (len(o.bundles[other].Authorities) == 0) {
			t.Fatalf("a federated document is read, or there is a reason: %v, %v", o.unread[other], o.bundles[other])
		}
		next, _ := (&state{}).accept(o, spiffeid.ID{}, now)
		if next != nil && next.usable(now) != nil {
			t.Fatal("accepted and not usable")
		}
	})
}
