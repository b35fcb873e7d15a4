package identity

import (
	"crypto/tls"
	"maps"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// state is all that a handshake reads. It is immutable and swapped as a whole, so
// that SVID and bundles seen by one handshake belong together.
type state struct {
	svid     *x509svid.SVID // nil until the first usable one
	cert     *tls.Certificate
	received time.Time // when svid arrived
	// api and peers are kept apart so that precedence is a matter of lookup
	// order, and a domain which the Workload API stops naming falls back to what
	// the peer says. With an SVID, api holds the own domain and peers does not.
	api   map[spiffeid.TrustDomain]*trustBundle
	peers map[spiffeid.TrustDomain]*trustBundle
}

// lookup returns the bundle in force for a trust domain, or nil.
func (st *state) lookup(td spiffeid.TrustDomain) *trustBundle {
	if b := st.api[td]; b != nil {
		return b
	}
	return st.peers[td]
}

func (st *state) domain() spiffeid.TrustDomain {
	if st.svid == nil {
		return spiffeid.TrustDomain{}
	}
	return st.svid.ID.TrustDomain()
}

// usable says whether the own SVID can be presented now.
func (st *state) usable(now time.Time) *PeerError {
	if st.svid == nil {
		return refuse(spiffeid.ID{}, ReasonOwnSVIDMissing, ErrNotReady)
	}
	if notAfter := st.notAfter(); now.After(notAfter) {
		return refusef(st.svid.ID, ReasonOwnSVIDExpired, "own svid was valid until %s", notAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

func (st *state) notAfter() time.Time {
	if st.svid == nil {
		return time.Time{}
	}
	return st.svid.Certificates[0].NotAfter
}

// clone copies the maps, so that the copy can be changed before it is published.
func (st *state) clone() *state {
	c := *st
	c.api, c.peers = maps.Clone(st.api), maps.Clone(st.peers)
	if c.api == nil {
		c.api = make(map[spiffeid.TrustDomain]*trustBundle)
	}
	if c.peers == nil {
		c.peers = make(map[spiffeid.TrustDomain]*trustBundle)
	}
	return &c
}

// withSVID sets the SVID and the form in which crypto/tls wants it.
func (st *state) withSVID(svid *x509svid.SVID, received time.Time) {
	cert := &tls.Certificate{PrivateKey: svid.PrivateKey, Leaf: svid.Certificates[0]}
	for _, c := range svid.Certificates {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	st.svid, st.cert, st.received = svid, cert, received
}

// sortedBundles orders bundles by trust domain.
func sortedBundles(m map[spiffeid.TrustDomain]*trustBundle) []*trustBundle {
	return slices.SortedFunc(maps.Values(m), func(a, b *trustBundle) int { return a.domain.Compare(b.domain) })
}

// effective lists the bundles in force, ordered by trust domain.
func (st *state) effective() []*trustBundle {
	all := maps.Clone(st.peers)
	if all == nil {
		all = make(map[spiffeid.TrustDomain]*trustBundle, len(st.api))
	}
	maps.Copy(all, st.api)
	return sortedBundles(all)
}
