package identitytest

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// Leaf describes a certificate to mint. The zero value of every field but URIs
// gives what a good SVID has.
type Leaf struct {
	// URIs are the URI SANs, byte for byte; none gives a certificate without a
	// SAN.
	URIs []string
	// NotBefore and NotAfter default to those of the package.
	NotBefore, NotAfter time.Time
	// Key replaces a new ECDSA P-256 key.
	Key crypto.Signer
	// CA makes a CA certificate of what is presented as a leaf.
	CA bool
	// KeyUsage replaces digitalSignature.
	KeyUsage x509.KeyUsage
	// ExtKeyUsage replaces server and client authentication.
	ExtKeyUsage []x509.ExtKeyUsage
}

// Mint signs the described certificate, without any of the checks that would keep
// a bad one from existing.
func (ca *CA) Mint(l Leaf) *x509svid.SVID { return must(ca.TryMint(l)) }

// TryMint is Mint for descriptions that crypto/x509 may refuse to sign or to parse.
func (ca *CA) TryMint(l Leaf) (*x509svid.SVID, error) {
	key := l.Key
	if key == nil {
		key = newKey()
	}
	template := &x509.Certificate{
		SerialNumber:          ca.nextSerial(),
		Subject:               pkix.Name{Organization: []string{"isthmus test"}},
		NotBefore:             NotBefore,
		NotAfter:              NotAfter,
		IsCA:                  l.CA,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if !l.NotBefore.IsZero() {
		template.NotBefore = l.NotBefore
	}
	if !l.NotAfter.IsZero() {
		template.NotAfter = l.NotAfter
	}
	if l.KeyUsage != 0 {
		template.KeyUsage = l.KeyUsage
	}
	if l.ExtKeyUsage != nil {
		template.ExtKeyUsage = l.ExtKeyUsage
	}
	if len(l.URIs) > 0 {
		template.ExtraExtensions = append(template.ExtraExtensions, uriSAN(l.URIs))
	}
	leaf, err := sign(template, ca.cert, key.Public(), ca.key)
	if err != nil {
		return nil, err
	}
	svid := &x509svid.SVID{Certificates: append([]*x509.Certificate{leaf}, ca.chain()...), PrivateKey: key}
	if len(l.URIs) > 0 {
		// A bad one has no ID; its zero value is what a Source would see.
		svid.ID, _ = spiffeid.FromString(l.URIs[0])
	}
	return svid, nil
}

// uriSAN writes the extension by hand, since x509 would normalise the URIs.
func uriSAN(uris []string) pkix.Extension {
	names := make([]asn1.RawValue, 0, len(uris))
	for _, u := range uris {
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(u)})
	}
	return pkix.Extension{
		Id:       asn1.ObjectIdentifier{2, 5, 29, 17}, // subjectAltName
		Critical: true,
		Value:    must(asn1.Marshal(names)),
	}
}

// Expired mints an SVID that was valid in the nineties.
func (ca *CA) Expired(id spiffeid.ID) *x509svid.SVID {
	return ca.Mint(Leaf{URIs: []string{id.String()}, NotAfter: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)})
}

// NotYetValid mints an SVID that will be valid from 2090.
func (ca *CA) NotYetValid(id spiffeid.ID) *x509svid.SVID {
	return ca.Mint(Leaf{URIs: []string{id.String()}, NotBefore: time.Date(2090, 1, 1, 0, 0, 0, 0, time.UTC)})
}

// TwoURIs mints a leaf that claims two IDs.
func (ca *CA) TwoURIs(a, b spiffeid.ID) *x509svid.SVID {
	return ca.Mint(Leaf{URIs: []string{a.String(), b.String()}})
}

// NoSAN mints a leaf that claims no ID.
func (ca *CA) NoSAN() *x509svid.SVID { return ca.Mint(Leaf{}) }

// CAAsLeaf mints a CA certificate with an ID, presented as a leaf.
func (ca *CA) CAAsLeaf(id spiffeid.ID) *x509svid.SVID {
	return ca.Mint(Leaf{URIs: []string{id.String()}, CA: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign})
}
