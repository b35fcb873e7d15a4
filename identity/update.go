package identity

import (
	"errors"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// Refusals of an update from the Workload API or of files.
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

// offer is one complete answer of the Workload API, or what the files hold.
type offer struct {
	origin Origin
	where  string // address or path, for logs and errors
	svids  []*x509svid.SVID
	// bundles of the domains that are named. The Workload API gives no sequence
	// numbers, documents may.
	bundles map[spiffeid.TrustDomain]Bundle
	// unread are domains that are named too, and why there is no bundle of theirs.
	unread map[spiffeid.TrustDomain]error
}

func newOffer(c *workloadapi.X509Context, address string) offer {
	o := offer{origin: OriginWorkloadAPI, where: address, svids: c.SVIDs, bundles: make(map[spiffeid.TrustDomain]Bundle)}
	for _, b := range c.Bundles.Bundles() {
		o.bundles[b.TrustDomain()] = Bundle{TrustDomain: b.TrustDomain(), Authorities: b.X509Authorities()}
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
		return nil, o.located(err)
	}
	own := svid.ID.TrustDomain()
	if err := checkAuthorities(own, o.bundles[own].Authorities); err != nil {
		return nil, o.located(err)
	}
	if n := len(o.bundles) + len(o.unread) - 1; n > maxTrustDomains {
		return nil, o.located(fmt.Errorf("%w: %d federated, at most %d", ErrTooManyTrustDomains, n, maxTrustDomains))
	}

	next = st.clone()
	clear(next.api)
	var errs []error
	changed := false
	for td, err := range o.unread {
		errs = append(errs, err)
		if held := st.api[td]; held != nil {
			next.api[td] = held
		}
	}
	for td, offered := range o.bundles {
		held := st.api[td]
		b, err := held.successor(offered, o.origin, now)
		if err != nil {
			errs = append(errs, err)
		}
		if b != nil {
			next.api[td] = b
		}
		changed = changed || b != held
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
		return nil, o.located(fmt.Errorf("%w: %w", ErrUnusableSVID, err))
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

// successor returns what is held of a domain after offered: offered, or b itself
// with or without an error, which is nil where nothing was held.
func (b *trustBundle) successor(offered Bundle, origin Origin, now time.Time) (*trustBundle, error) {
	if err := checkAuthorities(offered.TrustDomain, offered.Authorities); err != nil {
		return b, err
	}
	same, sequence, hint := b.sameAuthorities(offered.Authorities), offered.Sequence, offered.RefreshHint
	if !offered.HasSequence {
		hint = defaultRefreshHint
		switch {
		case b == nil:
			sequence = NextSequence(0, offered.Authorities)
		case same: // also from another origin: peers know the content under this number
			sequence = b.sequence
		default:
			sequence = NextSequence(b.sequence, offered.Authorities)
		}
	} else if b != nil && b.origin == origin { // numbers of two origins do not compare
		if err := CheckSuccessor(b.document(), offered); err != nil {
			return b, err
		}
	}
	if same && b.origin == origin && b.sequence == sequence && b.refreshHint == hint {
		return b, nil
	}
	return newTrustBundle(offered.TrustDomain, offered.Authorities, origin, sequence, hint, now), nil
}

// located says where a refused offer came from, if that is a file; who reads of
// the Workload API knows its address.
func (o offer) located(err error) error {
	if o.origin != OriginFiles {
		return err
	}
	return fmt.Errorf("%s: %w", o.where, err)
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
