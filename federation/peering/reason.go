package peering

import (
	"errors"
	"fmt"
)

// Reason says why two clusters did not become peers. The vocabulary is closed: a
// metric label, a field of the log and of the API's problems.
type Reason string

// The reasons.
const (
	// ReasonMalformed: no token, or no message of the exchange.
	ReasonMalformed Reason = "malformed"
	// ReasonVersion: of a version that this one does not understand.
	ReasonVersion Reason = "version"
	// ReasonTampered: the token's checksum does not fit.
	ReasonTampered Reason = "tampered"
	// ReasonSelf: the token is this cluster's own.
	ReasonSelf Reason = "self"
	// ReasonUnknown: no such invitation, or the secret is not its.
	ReasonUnknown Reason = "unknown_token"
	// ReasonExpired, ReasonRevoked, ReasonUsed: the invitation is over.
	ReasonExpired Reason = "expired"
	ReasonRevoked Reason = "revoked"
	ReasonUsed    Reason = "used"
	// ReasonRemoved: the peering was completed, and the peer was removed since.
	ReasonRemoved Reason = "removed"
	// ReasonWrongInvitee: somebody else is invited.
	ReasonWrongInvitee Reason = "wrong_invitee"
	// ReasonUntrusted: the certificate is not of the offered bundle, or not of the
	// claimed ID.
	ReasonUntrusted Reason = "untrusted"
	// ReasonConflict: name, ID, trust domain or asserts are another cluster's.
	ReasonConflict Reason = "conflict"
	// ReasonNotAPeer: what was said makes no valid peer.
	ReasonInvalid Reason = "invalid"
	// ReasonUnreachable: no gateway of the inviter answered.
	ReasonUnreachable Reason = "unreachable"
	// ReasonForged: the inviter's answer is not of who made the token.
	ReasonForged Reason = "forged"
	// ReasonInternal: this federation cannot do it now (a store without writes).
	ReasonInternal Reason = "internal"
	// ReasonBusy: too many come at once.
	ReasonBusy Reason = "busy"
	// ReasonFull: too many invitations are open.
	ReasonFull Reason = "full"
)

// Reasons lists the closed vocabulary.
func Reasons() []Reason {
	return []Reason{
		ReasonMalformed, ReasonVersion, ReasonTampered, ReasonSelf, ReasonUnknown, ReasonExpired, ReasonRevoked,
		ReasonUsed, ReasonRemoved, ReasonWrongInvitee, ReasonUntrusted, ReasonConflict, ReasonInvalid,
		ReasonUnreachable, ReasonForged, ReasonInternal, ReasonBusy, ReasonFull,
	}
}

// Refusal is a peering that did not happen.
type Refusal struct {
	Reason Reason
	// Remote says that the other cluster refused.
	Remote bool
	// Message is for people and says what to do next.
	Message string
	Err     error
}

// Error is the message.
func (e *Refusal) Error() string {
	s := e.Message
	if e.Remote {
		s = "the inviter refused: " + s
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap is the cause.
func (e *Refusal) Unwrap() error { return e.Err }

func refuse(reason Reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

func refuseFor(reason Reason, err error, format string, args ...any) *Refusal {
	r := refuse(reason, format, args...)
	r.Err = err
	return r
}

// refusalOf makes any error a Refusal.
func refusalOf(err error) *Refusal {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r
	}
	return refuseFor(ReasonInternal, err, "cannot be done now")
}
