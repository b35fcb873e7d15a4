package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// Refusals of an update from the Workload API.
var (
	// ErrIDNotOffered: the wanted SPIFFE ID is not among the SVIDs.
	ErrIDNotOffered = errors.New("wanted spiffe id is not offered")
	// ErrUnusableSVID: the SVID is expired, not yet valid, or does not chain to
	// the bundle that came with it.
	ErrUnusableSVID = errors.New("offered svid is unusable")
	// ErrOlderSVID: the SVID was issued before the one that is held, which is
	// still good.
	ErrOlderSVID = errors.New("offered svid is older than the one held")
)

// offer is one complete answer of the Workload API.
type offer struct {
	svids   []*x509svid.SVID
	bundles map[spiffeid.TrustDomain][]*x509.Certificate
}

func newOffer(c *workloadapi.X509Context) offer {
	o := offer{svids: c.SVIDs, bundles: make(map[spiffeid.TrustDomain][]*x509.Certificate)}
	for _, b := range c.Bundles.Bundles() {
		o.bundles[b.TrustDomain()] = b.X509Authorities()
	}
	return o
}

// pick returns the wanted SVID, or the first when none is wanted by name.
func (o offer) pick(want spiffeid.ID) (*x509svid.SVID, error) {
	for _, svid := range o.svids {
		if want.IsZero() || svid.ID == want {
			return svid, nil
		}
	}
	return nil, fmt.Errorf("%w: want %s, offered %v", ErrIDNotOffered, want, o.ids())
}

func (o offer) ids() []spiffeid.ID {
	ids := make([]spiffeid.ID, 0, len(o.svids))
	for _, svid := range o.svids {
		ids = append(ids, svid.ID)
	}
	return ids
}

// accept decides what of an offer becomes the next state. It is pure.
//
// The offer is refused as a whole (next is nil) when the wanted ID is missing, the
// SVID is unusable, or the own bundle is empty: then nothing in it deserves trust.
// An empty or malformed federated bundle is refused by itself, and the one held
// stays; a federated domain that a complete answer no longer names is gone. An
// older SVID than the one held is left aside while its bundles are taken. The
// joined error names each refusal. next is st itself when nothing changed.
func (st *state) accept(o offer, want spiffeid.ID, now time.Time) (next *state, refused error) {
	svid, err := o.pick(want)
	if err != nil {
		return nil, err
	}
	own := svid.ID.TrustDomain()
	if err := checkAuthorities(own, o.bundles[own]); err != nil {
		return nil, err
	}
	if len(o.bundles)-1 > maxTrustDomains {
		return nil, fmt.Errorf("workload api: %w: %d federated, at most %d", ErrTooManyTrustDomains, len(o.bundles)-1, maxTrustDomains)
	}

	next = st.clone()
	clear(next.api)
	var errs []error
	changed := false
	for td, authorities := range o.bundles {
		held := st.api[td]
		switch err := checkAuthorities(td, authorities); {
		case err != nil:
			errs = append(errs, err)
			if held != nil {
				next.api[td] = held
			}
		case held.sameAuthorities(authorities):
			next.api[td] = held
		default:
			last := uint64(0)
			if held != nil {
				last = held.sequence
			}
			next.api[td] = newTrustBundle(td, authorities, OriginWorkloadAPI, NextSequence(last, authorities), defaultRefreshHint, now)
			changed = true
		}
	}
	for td := range st.api {
		changed = changed || next.api[td] == nil
	}

	onlyOwn := func(td spiffeid.TrustDomain) *trustBundle {
		if td != own {
			return nil
		}
		return next.api[own]
	}
	if _, err := verifyChain(svid.Certificates, onlyOwn, now); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnusableSVID, err)
	}
	switch {
	case st.svid != nil && st.svid.Certificates[0].Equal(svid.Certificates[0]):
	case st.svid != nil && st.svid.ID == svid.ID && olderThan(svid, st.svid) && verifies(st.svid, onlyOwn, now):
		errs = append(errs, fmt.Errorf("%w: serials %x and %x", ErrOlderSVID, svid.Certificates[0].SerialNumber, st.svid.Certificates[0].SerialNumber))
	default:
		next.withSVID(svid, now)
		changed = true
	}
	delete(next.peers, own) // set before we knew our own domain
	if !changed {
		next = st
	}
	return next, errors.Join(errs...)
}

// olderThan compares when two SVIDs were issued: both ends of its life earlier.
// One end alone may move when the issuer's configured life changes.
func olderThan(a, b *x509svid.SVID) bool {
	x, y := a.Certificates[0], b.Certificates[0]
	return x.NotBefore.Before(y.NotBefore) && x.NotAfter.Before(y.NotAfter)
}

func verifies(svid *x509svid.SVID, lookup func(spiffeid.TrustDomain) *trustBundle, now time.Time) bool {
	_, err := verifyChain(svid.Certificates, lookup, now)
	return err == nil
}
