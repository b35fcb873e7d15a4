package identity

import (
	"crypto/x509"
	"maps"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Origin says where a bundle came from.
type Origin string

// The origins of a bundle.
const (
	OriginWorkloadAPI Origin = "workload_api"
	OriginFiles       Origin = "files"
	OriginFeed        Origin = "feed"
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

// document returns b in the form in which bundles travel; the zero Bundle for nil.
func (b *trustBundle) document() Bundle {
	if b == nil {
		return Bundle{}
	}
	return Bundle{
		TrustDomain: b.domain, Authorities: b.authorities,
		Sequence: b.sequence, HasSequence: true, RefreshHint: b.refreshHint,
	}
}

func (b *trustBundle) sameAuthorities(authorities []*x509.Certificate) bool {
	return b != nil && sameCertificates(b.authorities, authorities)
}

// sameCertificates compares as sets: order and repetition in a bundle mean nothing.
func sameCertificates(a, b []*x509.Certificate) bool {
	return maps.Equal(certificateSet(a), certificateSet(b))
}

func certificateSet(certs []*x509.Certificate) map[string]struct{} {
	set := make(map[string]struct{}, len(certs))
	for _, c := range certs {
		set[string(c.Raw)] = struct{}{}
	}
	return set
}

// staticBundle turns go-spiffe's bundle into ours.
func staticBundle(b *x509bundle.Bundle, now time.Time) *trustBundle {
	authorities := b.X509Authorities()
	return newTrustBundle(b.TrustDomain(), authorities, OriginStatic, NextSequence(0, authorities), defaultRefreshHint, now)
}
