package exchange

import "fmt"

// Reason says why something of a peer, or at a peer, was refused: a closed
// vocabulary, fit for logs and metric labels.
type Reason string

// The reasons of a RefusedError.
const (
	// ReasonFormat: the wire format is another version.
	ReasonFormat Reason = "format"
	// ReasonOrigin: the data names another cluster than the authenticated one.
	ReasonOrigin Reason = "origin"
	// ReasonStale: (epoch, version) is below what was applied.
	ReasonStale Reason = "stale"
	// ReasonGap: a delta that does not start where the listener stands.
	ReasonGap Reason = "gap"
	// ReasonDigest: the listener's state differs from the origin's.
	ReasonDigest Reason = "digest"
	// ReasonProtocol: an event where it must not be, or that is no event.
	ReasonProtocol Reason = "protocol"
	// ReasonInvalid: a value that is not what it must be.
	ReasonInvalid Reason = "invalid"
	// ReasonQuota: more than Limits allow.
	ReasonQuota Reason = "quota"
	// ReasonRate: more often than Limits allow.
	ReasonRate Reason = "rate"
	// ReasonDenied: the peer's federation does not serve us.
	ReasonDenied Reason = "denied"
)

// RefusedError means that what a peer said was not applied; the last good state
// stays as it is.
type RefusedError struct {
	Reason Reason
	// What names the field, the value and the rule.
	What string
	// Err is the cause, where there is one.
	Err error
}

// Error is "reason: what: cause".
func (e *RefusedError) Error() string {
	s := string(e.Reason) + ": " + e.What
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap is the cause.
func (e *RefusedError) Unwrap() error { return e.Err }

func refuse(r Reason, format string, args ...any) error {
	return &RefusedError{Reason: r, What: fmt.Sprintf(format, args...)}
}

func exceeds(what string, value, limit int) error {
	return refuse(ReasonQuota, "%s: value %d: at most %d of one origin", what, value, limit)
}
