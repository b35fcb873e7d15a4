package identity

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// JoinALPN is the protocol of connections by which two clusters that hold no
// bundle of each other become peers. It is negotiated alone: a connection is
// either for joining or for something else.
const JoinALPN = "isthmus-join/1"

// MaxAnchors bounds the authorities of an own domain that are named in advance:
// more than one are there only while a CA rotates.
const MaxAnchors = 4

// Anchor names one authority by the SHA-256 of its certificate. It is short
// enough to be passed on by hand, and nobody can make another certificate for it.
type Anchor [sha256.Size]byte

// String is the anchor in hexadecimal.
func (a Anchor) String() string { return hex.EncodeToString(a[:]) }

// ParseAnchor reads what String wrote.
func ParseAnchor(s string) (Anchor, error) {
	var a Anchor
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(a) {
		return a, fmt.Errorf("anchor %.80q: must be %d hexadecimal digits", s, 2*len(a))
	}
	copy(a[:], b)
	return a, nil
}

func anchorOf(c *x509.Certificate) Anchor { return sha256.Sum256(c.Raw) }

// Anchors name the authorities by which others can recognise this process before
// they hold the bundle, that of the current SVID first; at most MaxAnchors. The
// error is ErrNotReady where there is no SVID.
func (s *Source) Anchors() ([]Anchor, error) {
	roots := s.state.Load().joinRoots(s.now())
	if len(roots) == 0 {
		return nil, ErrNotReady
	}
	anchors := make([]Anchor, len(roots))
	for i, c := range roots {
		anchors[i] = anchorOf(c)
	}
	return anchors, nil
}

// joinRoots are the own authorities that a joining server shows: the one that its
// SVID hangs from first, then the newest.
func (st *state) joinRoots(now time.Time) []*x509.Certificate {
	if st.svid == nil {
		return nil
	}
	bundle := st.lookup(st.domain())
	if bundle == nil {
		return nil
	}
	roots := slices.Clone(bundle.authorities)
	slices.SortStableFunc(roots, func(a, b *x509.Certificate) int {
		return cmp.Or(-compareBool(st.hangsFrom(a, now), st.hangsFrom(b, now)), b.NotBefore.Compare(a.NotBefore))
	})
	return roots[:min(len(roots), MaxAnchors)]
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}

// hangsFrom reports whether the own SVID verifies against one authority alone.
func (st *state) hangsFrom(root *x509.Certificate, now time.Time) bool {
	alone := newTrustBundle(st.domain(), []*x509.Certificate{root}, OriginStatic, 0, 0, now)
	_, err := verifyChain(st.svid.Certificates, func(spiffeid.TrustDomain) *trustBundle { return alone }, now)
	return err == nil
}

// WithJoin returns a configuration for the same listener as config (of ServerTLS)
// that also takes connections of JoinALPN while open returns true. Such a
// connection is of a stranger: the server shows its SVID and, behind it, the
// authorities that Anchors names; the client may show a certificate whose key it
// has proven to hold, and nothing of it is judged before [Source.VerifyOffered].
// Whoever serves it must expect anybody.
func (s *Source) WithJoin(config *tls.Config, open func() bool) *tls.Config {
	config = config.Clone()
	inspect, join := config.GetConfigForClient, s.joinServerTLS()
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == JoinALPN && open() {
			return join, nil
		}
		return inspect(hello) // which refuses the protocol, counted
	}
	return config
}

func (s *Source) joinServerTLS() *tls.Config {
	cfg := s.baseTLS([]string{JoinALPN}, nil)
	cfg.ClientAuth = tls.RequestClientCert // its possession is proven, its issuer is not known
	cfg.VerifyConnection = s.joinConnection(func(tls.ConnectionState) *PeerError { return nil })
	cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		own, err := s.ownCertificate()
		if err != nil {
			return nil, err
		}
		shown := *own
		shown.Certificate = slices.Clone(own.Certificate)
		for _, root := range s.state.Load().joinRoots(s.now()) {
			shown.Certificate = append(shown.Certificate, root.Raw)
		}
		return &shown, nil
	}
	return cfg
}

// JoinClientTLS returns the configuration of a dialer of JoinALPN: the server must
// show one of the anchors, hang from it, and pass authorize, which must demand an
// ID of the trust domain that the anchors are of. present says whether the own
// SVID is shown; where the server needs none, a stranger's network learns nothing.
func (s *Source) JoinClientTLS(anchors []Anchor, authorize Authorizer, present bool) *tls.Config {
	anchors = slices.Clone(anchors)
	cfg := s.baseTLS([]string{JoinALPN}, nil)
	cfg.InsecureSkipVerify = true // as in ClientTLS: VerifyConnection does it
	cfg.VerifyConnection = s.joinConnection(func(cs tls.ConnectionState) *PeerError {
		id, err := verifyAnchored(cs.PeerCertificates, anchors, s.now())
		if err != nil {
			return err
		}
		if authorize == nil {
			return refuse(id, ReasonUnauthorized, errors.New("no authorizer is set"))
		}
		if err := authorize(id); err != nil {
			return refuse(id, ReasonUnauthorized, err)
		}
		return nil
	})
	if present {
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return s.ownCertificate() }
	}
	return cfg
}

// joinConnection is VerifyConnection of both ends around what differs.
func (s *Source) joinConnection(judge func(tls.ConnectionState) *PeerError) func(tls.ConnectionState) error {
	return func(cs tls.ConnectionState) error {
		none := spiffeid.ID{}
		var err *PeerError
		switch {
		case cs.Version < tls.VersionTLS13:
			err = refusef(none, ReasonTLSVersion, "negotiated %s", tls.VersionName(cs.Version))
		case cs.NegotiatedProtocol != JoinALPN:
			err = refusef(none, ReasonALPN, "negotiated %q, want %q", cs.NegotiatedProtocol, JoinALPN)
		case cs.DidResume:
			err = refuse(none, ReasonResumed, nil)
		default:
			if err = s.state.Load().usable(s.now()); err == nil {
				err = judge(cs)
			}
		}
		if err != nil {
			return s.refused(err)
		}
		return nil
	}
}

// verifyAnchored verifies a chain that brings its authority along: only one that
// is named by an anchor counts, and only for the leaf's own trust domain.
func verifyAnchored(certs []*x509.Certificate, anchors []Anchor, now time.Time) (spiffeid.ID, *PeerError) {
	if len(certs) > maxPeerChain+MaxAnchors {
		return spiffeid.ID{}, refusef(spiffeid.ID{}, ReasonUntrustedChain, "%d certificates, at most %d are accepted", len(certs), maxPeerChain+MaxAnchors)
	}
	var chain, roots []*x509.Certificate
	for i, c := range certs {
		if i > 0 && c.IsCA && slices.Contains(anchors, anchorOf(c)) {
			roots = append(roots, c)
			continue
		}
		if i > 0 && c.IsCA && c.CheckSignatureFrom(c) == nil {
			continue // another authority of a rotation, not named: of no weight
		}
		chain = append(chain, c)
	}
	return verifyChain(chain, func(td spiffeid.TrustDomain) *trustBundle {
		if len(roots) == 0 || checkAuthorities(td, roots) != nil {
			return nil
		}
		return newTrustBundle(td, roots, OriginPeer, 0, 0, now)
	}, now)
}

// VerifyOffered checks the chain that a stranger showed against the bundle
// document that the stranger offers for its trust domain, and returns its ID.
// Where a bundle of that domain is held already (the own one, a federated one, a
// peer's) it is that one that counts, and the offered one is not looked at: held
// says so. With anchors only those authorities of the offered bundle count that
// they name. Who may offer a bundle at all is the caller's matter. Errors are of
// type [*PeerError], or those of [ParseBundle].
func (s *Source) VerifyOffered(certs []*x509.Certificate, document []byte, anchors ...Anchor) (id spiffeid.ID, held bool, err error) {
	if len(certs) == 0 {
		return id, false, refuse(id, ReasonNoCertificate, nil)
	}
	claimed, err := leafID(certs[0])
	if err != nil {
		return id, false, refuse(id, ReasonMalformedID, err)
	}
	if s.state.Load().lookup(claimed.TrustDomain()) != nil {
		id, err := s.VerifyPeer(certs)
		if err != nil {
			return claimed, true, err
		}
		return id, true, nil
	}
	offered, err := ParseBundle(claimed.TrustDomain(), document)
	if err != nil {
		return id, false, fmt.Errorf("offered: %w", err)
	}
	counted := offered.Authorities
	if len(anchors) > 0 {
		counted = slices.DeleteFunc(slices.Clone(counted), func(c *x509.Certificate) bool { return !slices.Contains(anchors, anchorOf(c)) })
	}
	now := s.now()
	bundle := newTrustBundle(offered.TrustDomain, counted, OriginPeer, offered.Sequence, offered.RefreshHint, now)
	id, refused := verifyChain(certs, func(td spiffeid.TrustDomain) *trustBundle {
		if td != bundle.domain {
			return nil
		}
		return bundle
	}, now)
	if refused != nil {
		return id, false, refused
	}
	return id, false, nil
}
