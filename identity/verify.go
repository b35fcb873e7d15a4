package identity

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

const (
	// maxPeerChain bounds the certificates that a peer may present: building
	// chains costs signature checks, before the peer is known. SPIRE's longest
	// usual chain (nested servers) is four.
	maxPeerChain = 8
	// maxIDLength is the limit of the SPIFFE-ID specification, section 2.3.
	maxIDLength = 2048
)

// oidSubjectAltName is id-ce-subjectAltName, RFC 5280 section 4.2.1.6.
var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// VerifyPeer checks a presented chain (leaf first) against the bundles that are
// held now and returns the leaf's ID. It is what a handshake checks, without the
// authorizer, and is meant for sweeps over live links after [Source.Updates]: a
// link outlives its handshake. Errors are of type [*PeerError].
func (s *Source) VerifyPeer(certs []*x509.Certificate) (spiffeid.ID, error) {
	id, err := verifyChain(certs, s.state.Load().lookup, s.now())
	if err != nil {
		return id, err
	}
	return id, nil
}

// VerifyPeerUntil is VerifyPeer, and tells how long the answer holds by itself: until
// the first certificate of the chain that proved it, its root included, expires. A
// sweep that asks again after every one of [Source.Updates] needs to look at the
// clock only, in between.
func (s *Source) VerifyPeerUntil(certs []*x509.Certificate) (spiffeid.ID, time.Time, error) {
	id, until, err := verifyChainUntil(certs, s.state.Load().lookup, s.now())
	if err != nil {
		return id, until, err
	}
	return id, until, nil
}

// PeerID returns the ID in the peer's leaf certificate. The state must come from
// a connection made with [Source.ServerTLS] or [Source.ClientTLS]; nothing is
// verified again. Errors are of type [*PeerError].
func PeerID(cs tls.ConnectionState) (spiffeid.ID, error) {
	if len(cs.PeerCertificates) == 0 {
		return spiffeid.ID{}, refuse(spiffeid.ID{}, ReasonNoCertificate, nil)
	}
	id, err := leafID(cs.PeerCertificates[0])
	if err != nil {
		return spiffeid.ID{}, refuse(spiffeid.ID{}, ReasonMalformedID, err)
	}
	return id, nil
}

// verifyChain is the whole authentication of a peer, without clock and without
// state. lookup returns nil for a trust domain that is not held. On error the ID
// is the claimed one if it could be read. It returns the concrete error type so
// that callers cannot forget the reason; nil means verified.
func verifyChain(certs []*x509.Certificate, lookup func(spiffeid.TrustDomain) *trustBundle, now time.Time) (spiffeid.ID, *PeerError) {
	id, _, refused := verifyChainUntil(certs, lookup, now)
	return id, refused
}

// verifyChainUntil is verifyChain that also tells when what it has verified expires.
func verifyChainUntil(certs []*x509.Certificate, lookup func(spiffeid.TrustDomain) *trustBundle, now time.Time) (id spiffeid.ID, until time.Time, refused *PeerError) {
	if len(certs) == 0 {
		return spiffeid.ID{}, until, refuse(spiffeid.ID{}, ReasonNoCertificate, nil)
	}
	leaf := certs[0]
	id, err := leafID(leaf)
	if err != nil {
		return spiffeid.ID{}, until, refuse(spiffeid.ID{}, ReasonMalformedID, err)
	}
	if err := checkLeaf(leaf); err != nil {
		return id, until, refuse(id, ReasonNotLeaf, err)
	}
	if len(certs) > maxPeerChain {
		return id, until, refusef(id, ReasonUntrustedChain, "chain of %d certificates, at most %d are accepted", len(certs), maxPeerChain)
	}
	bundle := lookup(id.TrustDomain())
	if bundle == nil {
		return id, until, refusef(id, ReasonUnknownTrustDomain, "no bundle is held for trust domain %s", id.TrustDomain())
	}
	// Validity of the leaf is looked at before the chain: x509's error does not
	// say which certificate of the chain is meant, nor at which end it failed.
	switch {
	case now.Before(leaf.NotBefore):
		return id, until, refusef(id, ReasonNotYetValid, "valid from %s", leaf.NotBefore.UTC().Format(time.RFC3339))
	case now.After(leaf.NotAfter):
		return id, until, refusef(id, ReasonExpired, "valid until %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	intermediates := x509.NewCertPool()
	for _, c := range certs[1:] {
		intermediates.AddCert(c)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots:         bundle.pool,
		Intermediates: intermediates,
		CurrentTime:   now,
		// A certificate with extended key usages must name one of TLS; one
		// without any may be used for everything (RFC 5280, 4.2.1.12).
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.IncompatibleUsage {
			return id, until, refuse(id, ReasonNotLeaf, err)
		}
		return id, until, refuse(id, ReasonUntrustedChain, err)
	}
	for _, chain := range chains {
		if authoritiesOf(chain[1:], id.TrustDomain()) {
			if expires := firstExpiry(chain); until.Before(expires) {
				until = expires
			}
		}
	}
	if !until.IsZero() {
		return id, until, nil
	}
	return id, until, refusef(id, ReasonUntrustedChain, "every chain runs through an authority of another trust domain")
}

// firstExpiry is when a chain expires.
func firstExpiry(chain []*x509.Certificate) time.Time {
	first := chain[0].NotAfter
	for _, c := range chain[1:] {
		if c.NotAfter.Before(first) {
			first = c.NotAfter
		}
	}
	return first
}

// leafID reads the one SPIFFE ID of a leaf: exactly one URI SAN, canonical, with
// a path. go-spiffe reads the parsed URL, which has lost what the URL parser
// normalised (scheme case, an empty fragment); two readers that normalise
// differently are how identities were confused before, so the raw bytes must
// equal the canonical form.
func leafID(leaf *x509.Certificate) (spiffeid.ID, error) {
	id, err := x509svid.IDFromCert(leaf)
	if err != nil {
		return spiffeid.ID{}, err
	}
	if id.Path() == "" {
		return spiffeid.ID{}, errors.New("spiffe id of a leaf must have a path")
	}
	if len(id.String()) > maxIDLength {
		return spiffeid.ID{}, errors.New("spiffe id is longer than 2048 bytes")
	}
	raw, err := rawURIs(leaf)
	if err != nil {
		return spiffeid.ID{}, err
	}
	if len(raw) != 1 || raw[0] != id.String() {
		return spiffeid.ID{}, errors.New("uri san is not in the canonical form of a spiffe id")
	}
	return id, nil
}

// rawURIs returns the URI names of the subject alternative name extension as
// they were signed.
func rawURIs(cert *x509.Certificate) ([]string, error) {
	var uris []string
	for _, ext := range cert.Extensions {
		if !ext.Id.Equal(oidSubjectAltName) {
			continue
		}
		var names asn1.RawValue
		rest, err := asn1.Unmarshal(ext.Value, &names)
		if err != nil || len(rest) != 0 || !names.IsCompound || names.Tag != asn1.TagSequence {
			return nil, errors.New("malformed subject alternative name")
		}
		for rest = names.Bytes; len(rest) > 0; {
			var name asn1.RawValue
			if rest, err = asn1.Unmarshal(rest, &name); err != nil {
				return nil, errors.New("malformed subject alternative name")
			}
			const uniformResourceIdentifier = 6 // GeneralName, RFC 5280 section 4.2.1.6
			if name.Class == asn1.ClassContextSpecific && name.Tag == uniformResourceIdentifier {
				uris = append(uris, string(name.Bytes))
			}
		}
	}
	return uris, nil
}

// checkLeaf applies what the X509-SVID specification demands of a leaf (sections
// 4.1 to 4.3) and go-spiffe's Verify partly leaves out.
func checkLeaf(leaf *x509.Certificate) error {
	switch {
	case leaf.IsCA:
		return errors.New("certificate is a ca")
	case leaf.KeyUsage&x509.KeyUsageCertSign != 0:
		return errors.New("certificate has key usage keyCertSign")
	case leaf.KeyUsage&x509.KeyUsageCRLSign != 0:
		return errors.New("certificate has key usage cRLSign")
	case leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return errors.New("certificate lacks key usage digitalSignature")
	}
	return nil
}

// authoritiesOf reports whether none of the signing certificates belongs to
// another trust domain. Two domains may hang below one corporate root; then it
// is the intermediate's own SPIFFE ID that keeps them apart (X509-SVID, 4.1).
func authoritiesOf(authorities []*x509.Certificate, td spiffeid.TrustDomain) bool {
	for _, ca := range authorities {
		for _, uri := range ca.URIs {
			if uri.Scheme == "spiffe" && uri.String() != td.IDString() {
				return false
			}
		}
	}
	return true
}
