package identity

import (
	"errors"
	"fmt"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Reason says why an authentication was refused. The vocabulary is closed: it is
// a metric label, a log field and, in the gateways' close codes, part of the
// protocol between clusters.
type Reason string

// The reasons, in the order in which the checks run.
const (
	// ReasonTLSVersion: the peer does not speak TLS 1.3.
	ReasonTLSVersion Reason = "tls_version"
	// ReasonALPN: no application protocol, or none of ours, was negotiated.
	ReasonALPN Reason = "alpn"
	// ReasonOwnSVIDMissing: we hold no SVID yet, so that no handshake can succeed.
	ReasonOwnSVIDMissing Reason = "own_svid_missing"
	// ReasonOwnSVIDExpired: our own SVID is past its NotAfter; it is not presented.
	ReasonOwnSVIDExpired Reason = "own_svid_expired"
	// ReasonResumed: the session was resumed. We never offer that, so it is refused.
	ReasonResumed Reason = "resumed"
	// ReasonNoCertificate: the peer sent no certificate.
	ReasonNoCertificate Reason = "no_certificate"
	// ReasonMalformedID: not exactly one URI SAN, or not a canonical SPIFFE ID with a path.
	ReasonMalformedID Reason = "malformed_id"
	// ReasonNotLeaf: the certificate is a CA, may sign certificates, or lacks what an X509-SVID leaf needs.
	ReasonNotLeaf Reason = "not_leaf"
	// ReasonUnknownTrustDomain: no bundle is held for the trust domain of the ID.
	ReasonUnknownTrustDomain Reason = "unknown_trust_domain"
	// ReasonNotYetValid: the leaf's NotBefore is in the future.
	ReasonNotYetValid Reason = "not_yet_valid"
	// ReasonExpired: the leaf's NotAfter is in the past.
	ReasonExpired Reason = "expired"
	// ReasonUntrustedChain: no chain leads to the bundle of the ID's own trust domain.
	ReasonUntrustedChain Reason = "untrusted_chain"
	// ReasonUnauthorized: authenticated, but the authorizer said no.
	ReasonUnauthorized Reason = "unauthorized"
	// ReasonBadProof: the signature of a proof on a live link is wrong, or its chain
	// cannot be read.
	ReasonBadProof Reason = "bad_proof"
	// ReasonChangedID: a proof on a live link is of another ID than the link.
	ReasonChangedID Reason = "changed_id"
)

// Reasons lists the closed vocabulary, for metrics and documentation.
func Reasons() []Reason {
	return []Reason{
		ReasonTLSVersion, ReasonALPN, ReasonOwnSVIDMissing, ReasonOwnSVIDExpired, ReasonResumed,
		ReasonNoCertificate, ReasonMalformedID, ReasonNotLeaf, ReasonUnknownTrustDomain,
		ReasonNotYetValid, ReasonExpired, ReasonUntrustedChain, ReasonUnauthorized,
		ReasonBadProof, ReasonChangedID,
	}
}

// PeerError is a refused authentication. Every refusal of this package's TLS
// configurations and of [Source.VerifyPeer] is one; use errors.AsType to find it
// below the layers that crypto/tls and QUIC put on top.
type PeerError struct {
	// ID is the SPIFFE ID that the peer claimed (a claim, not a proven fact);
	// zero when there was none to read. For the own_svid reasons it is our own.
	ID spiffeid.ID
	// Reason is one of the closed vocabulary.
	Reason Reason
	// Err is the cause, for logs; nil when the reason says it all. It is never
	// sent to the peer.
	Err error
}

// Error implements error.
func (e *PeerError) Error() string {
	who := "peer"
	if !e.ID.IsZero() {
		who = e.ID.String()
	}
	if e.Err == nil {
		return fmt.Sprintf("%s refused: %s", who, e.Reason)
	}
	return fmt.Sprintf("%s refused: %s: %v", who, e.Reason, e.Err)
}

// Unwrap returns the cause.
func (e *PeerError) Unwrap() error { return e.Err }

func refuse(id spiffeid.ID, reason Reason, cause error) *PeerError {
	return &PeerError{ID: id, Reason: reason, Err: cause}
}

func refusef(id spiffeid.ID, reason Reason, format string, args ...any) *PeerError {
	return &PeerError{ID: id, Reason: reason, Err: fmt.Errorf(format, args...)}
}

// Refusals of bundles. Each is wrapped with the trust domain, the value and the
// rule, so that callers branch with errors.Is and people can read it.
var (
	// ErrOwnTrustDomain: a peer tried to set the bundle of our own trust domain.
	ErrOwnTrustDomain = errors.New("a peer cannot give the bundle of the own trust domain")
	// ErrTooLarge: a document is larger than its bound.
	ErrTooLarge = errors.New("document is too large")
	// ErrMalformedBundle: not a SPIFFE bundle document, or with certificates that are no authorities.
	ErrMalformedBundle = errors.New("malformed bundle document")
	// ErrEmptyBundle: no X.509 authority; empty never replaces good.
	ErrEmptyBundle = errors.New("bundle holds no x509 authority")
	// ErrSequenceRollback: the sequence number is lower than the one that is held.
	ErrSequenceRollback = errors.New("bundle sequence number goes back")
	// ErrTooManyTrustDomains: the table of bundles is full.
	ErrTooManyTrustDomains = errors.New("too many trust domains")
	// ErrNotReady: no usable SVID is held (yet).
	ErrNotReady = errors.New("no usable svid")
)
