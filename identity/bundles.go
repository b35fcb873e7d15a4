package identity

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	// MaxBundleBytes bounds a bundle document: go-spiffe reads without a limit.
	// A root takes about 1 KiB in it.
	MaxBundleBytes = 1 << 20
	// maxAuthorities bounds the authorities of one trust domain: each costs
	// memory in every process and time in every handshake of that domain.
	maxAuthorities = 64
	// maxTrustDomains bounds how many foreign trust domains are held; it bounds
	// the metric series too.
	maxTrustDomains = 256
)

// Bundle is what a SPIFFE bundle document says about X.509.
type Bundle struct {
	TrustDomain spiffeid.TrustDomain
	// Authorities are the X.509 roots, in the document's order; at least one.
	Authorities []*x509.Certificate
	// Sequence is the document's spiffe_sequence; HasSequence tells zero from none.
	Sequence    uint64
	HasSequence bool
	// RefreshHint is how often to look again, a year at most; zero when the document
	// has none.
	RefreshHint time.Duration
}

// ParseBundle reads a SPIFFE bundle document (a JWK set, at most MaxBundleBytes)
// of the given trust domain; the document itself does not name the domain. A
// document with a private key in it is refused. Errors wrap ErrTooLarge, ErrMalformedBundle or ErrEmptyBundle.
func ParseBundle(td spiffeid.TrustDomain, document []byte) (Bundle, error) {
	if len(document) > MaxBundleBytes {
		return Bundle{}, fmt.Errorf("bundle of %s: %w: %d bytes, at most %d", td, ErrTooLarge, len(document), MaxBundleBytes)
	}
	head, err := readHead(document)
	if err != nil {
		return Bundle{}, fmt.Errorf("bundle of %s: %w", td, err)
	}
	parsed, err := spiffebundle.Parse(td, document)
	if err != nil {
		return Bundle{}, fmt.Errorf("bundle of %s: %w: %w", td, ErrMalformedBundle, err)
	}
	b := Bundle{TrustDomain: td, Authorities: parsed.X509Authorities(), RefreshHint: head.refreshHint()}
	b.Sequence, b.HasSequence = parsed.SequenceNumber()
	if err := checkAuthorities(td, b.Authorities); err != nil {
		return Bundle{}, err
	}
	return b, nil
}

// checkAuthorities refuses a set of roots that cannot be a bundle.
func checkAuthorities(td spiffeid.TrustDomain, authorities []*x509.Certificate) error {
	if len(authorities) == 0 {
		return fmt.Errorf("bundle of %s: %w", td, ErrEmptyBundle)
	}
	if len(authorities) > maxAuthorities {
		return fmt.Errorf("bundle of %s: %w: %d authorities, at most %d", td, ErrTooLarge, len(authorities), maxAuthorities)
	}
	for i, c := range authorities {
		if !c.IsCA {
			return fmt.Errorf("bundle of %s: %w: certificate %d (%s) is not a ca", td, ErrMalformedBundle, i, c.Subject)
		}
		if !authoritiesOf([]*x509.Certificate{c}, td) {
			return fmt.Errorf("bundle of %s: %w: certificate %d belongs to another trust domain", td, ErrMalformedBundle, i)
		}
		if err := checkKey(c); err != nil {
			return fmt.Errorf("bundle of %s: certificate %d: %w", td, i, err)
		}
	}
	return nil
}

// Marshal writes the bundle as a SPIFFE bundle document.
func (b Bundle) Marshal() ([]byte, error) {
	doc := spiffebundle.FromX509Authorities(b.TrustDomain, b.Authorities)
	if b.HasSequence {
		doc.SetSequenceNumber(b.Sequence)
	}
	if b.RefreshHint > 0 {
		doc.SetRefreshHint(b.RefreshHint)
	}
	out, err := doc.Marshal()
	if err != nil {
		return nil, fmt.Errorf("bundle of %s: %w", b.TrustDomain, err)
	}
	return out, nil
}

// TrustBundle returns the own trust domain's bundle as a SPIFFE bundle document
// with sequence number and refresh hint, to hand to peers.
func (s *Source) TrustBundle() ([]byte, error) {
	st := s.state.Load()
	b := st.api[st.domain()]
	if st.svid == nil || b == nil {
		return nil, ErrNotReady
	}
	return b.document().Marshal()
}

// SetPeerBundle takes the bundle document that a peer gave for its own trust
// domain. Nothing changes on error. A document of a higher sequence replaces the
// one held, one of the same sequence must have the same content, a lower one is
// refused, and so is one without a sequence once one with a sequence was held.
func (s *Source) SetPeerBundle(td spiffeid.TrustDomain, document []byte) error {
	err := s.setPeerBundle(td, document)
	if err != nil {
		s.metrics.offered(OriginPeer, outcomeRefused)
		s.log.Warn("peer bundle refused", "trust_domain", td.Name(), "err", err)
	}
	return err
}

func (s *Source) setPeerBundle(td spiffeid.TrustDomain, document []byte) error {
	if td.IsZero() {
		return fmt.Errorf("trust domain: %w: empty", ErrMalformedBundle)
	}
	offered, err := ParseBundle(td, document)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state.Load()
	if td == st.domain() || td == s.opts.ID.TrustDomain() {
		return fmt.Errorf("bundle of %s: %w", td, ErrOwnTrustDomain)
	}
	held := st.peers[td]
	if held == nil && len(st.peers) >= maxTrustDomains {
		return fmt.Errorf("bundle of %s: %w: at most %d", td, ErrTooManyTrustDomains, maxTrustDomains)
	}
	if err := CheckSuccessor(held.document(), offered); err != nil {
		return err
	}
	if held.sameAuthorities(offered.Authorities) && held.sequence == offered.Sequence && held.refreshHint == offered.RefreshHint {
		s.metrics.offered(OriginPeer, outcomeUnchanged)
		return nil
	}
	next := st.clone()
	next.peers[td] = newTrustBundle(td, offered.Authorities, OriginPeer, offered.Sequence, offered.RefreshHint, s.now())
	s.metrics.offered(OriginPeer, outcomeApplied)
	s.log.Info("peer bundle updated", "trust_domain", td.Name(), "version", offered.Sequence, "count", len(offered.Authorities))
	s.saveCache(next)
	s.publish(next)
	return nil
}

// CheckSuccessor is the rule that a bundle's sequence never goes back: offered may
// replace held when its number is higher, or the same with the same content. A
// document without a number counts as zero, and among those the later one wins. A
// held bundle without authorities means that there is none. Errors wrap
// ErrSequenceRollback.
func CheckSuccessor(held, offered Bundle) error {
	switch {
	case len(held.Authorities) == 0 || offered.Sequence > held.Sequence:
		return nil
	case offered.Sequence < held.Sequence:
		return fmt.Errorf("bundle of %s: %w: offered %d, held %d", offered.TrustDomain, ErrSequenceRollback, offered.Sequence, held.Sequence)
	case held.Sequence != 0 && !sameCertificates(held.Authorities, offered.Authorities):
		return fmt.Errorf("bundle of %s: %w: other content under the same number %d", offered.TrustDomain, ErrSequenceRollback, held.Sequence)
	}
	return nil
}

// RemovePeerBundle forgets what a peer said about its trust domain, sequence
// number included, at once: it is the operator's explicit word. Handshakes with
// that domain are refused from now on, unless the Workload API names it too.
func (s *Source) RemovePeerBundle(td spiffeid.TrustDomain) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state.Load()
	if st.peers[td] == nil {
		return
	}
	next := st.clone()
	delete(next.peers, td)
	s.log.Info("peer bundle removed", "trust_domain", td.Name())
	s.saveCache(next)
	s.publish(next)
}

// RetainPeerBundles forgets what peers said about every trust domain that wanted
// does not name, also where the Workload API's word hides it: a domain that has
// left the configuration while this process was down is trusted no longer once
// the cache file has been read. It returns the domains that it has removed.
func (s *Source) RetainPeerBundles(wanted func(spiffeid.TrustDomain) bool) []spiffeid.TrustDomain {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.state.Load().clone()
	var gone []spiffeid.TrustDomain
	for td := range next.peers {
		if !wanted(td) {
			gone = append(gone, td)
			delete(next.peers, td)
			s.log.Info("peer bundle removed", "trust_domain", td.Name())
		}
	}
	if len(gone) == 0 {
		return nil
	}
	slices.SortFunc(gone, spiffeid.TrustDomain.Compare)
	s.saveCache(next)
	s.publish(next)
	return gone
}

// BundleStatus describes one bundle in force, for status pages and to reconcile
// with a list of peers.
type BundleStatus struct {
	TrustDomain spiffeid.TrustDomain
	Origin      Origin
	Sequence    uint64
	RefreshHint time.Duration
	Authorities int
	Updated     time.Time // when the content last changed
}

// Bundles lists the bundles in force, ordered by trust domain.
func (s *Source) Bundles() []BundleStatus {
	held := s.state.Load().effective()
	out := make([]BundleStatus, 0, len(held))
	for _, b := range held {
		out = append(out, BundleStatus{
			TrustDomain: b.domain, Origin: b.origin, Sequence: b.sequence,
			RefreshHint: b.refreshHint, Authorities: len(b.authorities), Updated: b.updated,
		})
	}
	return out
}
