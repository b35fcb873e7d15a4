package identity

import (
	"crypto/x509"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Origin says where a bundle came from.
type Origin string

// The origins of a bundle.
const (
	OriginWorkloadAPI Origin = "workload_api"
	OriginPeer        Origin = "peer"
	OriginStatic      Origin = "static"
)

// trustBundle is one trust domain's authorities. It is immutable: a change makes
// a new one, so that a handshake in progress sees one bundle from start to end.
type trustBundle struct {
	domain      spiffeid.TrustDomain
	authorities []*x509.Certificate
	pool        *x509.CertPool // of authorities, and of nothing else
	sequence    uint64
	refreshHint time.Duration
	origin      Origin
	updated     time.Time // when the content last changed
}

func newTrustBundle(td spiffeid.TrustDomain, authorities []*x509.Certificate, origin Origin, sequence uint64, hint time.Duration, now time.Time) *trustBundle {
	b := &trustBundle{
		domain: td, authorities: authorities, pool: x509.NewCertPool(),
		sequence: sequence, refreshHint: hint, origin: origin, updated: now,
	}
	for _, c := range authorities {
		b.pool.AddCert(c)
	}
	return b
}

// sameAuthorities compares as sets: the order of a bundle means nothing.
func (b *trustBundle) sameAuthorities(authorities []*x509.Certificate) bool {
	if b == nil || len(b.authorities) != len(authorities) {
		return false
	}
	have := make(map[string]struct{}, len(b.authorities))
	for _, c := range b.authorities {
		have[string(c.Raw)] = struct{}{}
	}
	for _, c := range authorities {
		if _, ok := have[string(c.Raw)]; !ok {
			return false
		}
	}
	return true
}

// staticBundle turns go-spiffe's bundle into ours.
func staticBundle(b *x509bundle.Bundle, now time.Time) *trustBundle {
	authorities := b.X509Authorities()
	return newTrustBundle(b.TrustDomain(), authorities, OriginStatic, BundleSequence(authorities), defaultRefreshHint, now)
}
