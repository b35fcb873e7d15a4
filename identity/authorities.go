package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Authority is one root of a bundle in force.
type Authority struct {
	TrustDomain spiffeid.TrustDomain
	// KeyID is the root's subject key ID in hexadecimal, which the certificates
	// below it name as their authority; of a root without one the first 20 bytes of
	// its key's SHA-256.
	KeyID     string
	NotBefore time.Time
	NotAfter  time.Time
	Origin    Origin
}

// Authorities lists the roots in force, ordered by trust domain and then as the
// bundle has them.
func (s *Source) Authorities() []Authority {
	var out []Authority
	for _, b := range s.state.Load().effective() {
		for _, c := range b.authorities {
			out = append(out, Authority{TrustDomain: b.domain, KeyID: subjectKeyID(c), NotBefore: c.NotBefore, NotAfter: c.NotAfter, Origin: b.origin})
		}
	}
	return out
}

// AuthorityOf returns the KeyID of the root that a presented chain (leaf first)
// hangs below, in the bundle that is held now for its trust domain; empty where it
// does not verify.
func (s *Source) AuthorityOf(certs []*x509.Certificate) string {
	st, now := s.state.Load(), s.now()
	id, refused := verifyChain(certs, st.lookup, now)
	if refused != nil {
		return ""
	}
	intermediates := x509.NewCertPool()
	for _, c := range certs[1:] {
		intermediates.AddCert(c)
	}
	chains, err := certs[0].Verify(x509.VerifyOptions{
		Roots: st.lookup(id.TrustDomain()).pool, Intermediates: intermediates, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return ""
	}
	return subjectKeyID(chains[0][len(chains[0])-1])
}

// OwnAuthority is AuthorityOf the own SVID.
func (s *Source) OwnAuthority() string {
	if st := s.state.Load(); st.svid != nil {
		return s.AuthorityOf(st.svid.Certificates)
	}
	return ""
}

func subjectKeyID(c *x509.Certificate) string {
	if len(c.SubjectKeyId) > 0 {
		return hex.EncodeToString(c.SubjectKeyId)
	}
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:20])
}
