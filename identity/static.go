package identity

import (
	"errors"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// ErrNotStatic says that only a Source of NewStatic takes a fixed identity.
var ErrNotStatic = errors.New("identity comes from a workload api")

// ReplaceStatic gives a Source of [NewStatic] another fixed identity, as if a
// Workload API had rotated it: SVID and bundles change in one step and the
// listeners of [Source.Updates] are told. A domain that is not among the bundles
// is gone; what peers gave by SetPeerBundle stays.
func (s *Source) ReplaceStatic(svid *x509svid.SVID, bundles ...*x509bundle.Bundle) error {
	if !s.static {
		return ErrNotStatic
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	next := s.state.Load().clone()
	if next.svid != svid {
		next.withSVID(svid, now)
	}
	clear(next.api)
	for _, b := range bundles {
		next.api[b.TrustDomain()] = staticBundle(b, now)
	}
	s.publish(next)
	return nil
}
