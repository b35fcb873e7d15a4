package flow

import "time"

// The reasons of refusals: a closed vocabulary, of the access log, metrics and answers.
const (
	// ReasonRate: the caller is over a rate.
	ReasonRate = "rate_limited"
	// ReasonQueueFull and ReasonQueueDelay: the service has no room, nor its queue; or
	// the wait was too long.
	ReasonQueueFull  = "queue_full"
	ReasonQueueDelay = "queue_delay"
	// ReasonBreaker: as much is under way to the cluster as may be.
	ReasonBreaker = "breaker_open"
	// ReasonDeadline: the caller's deadline would pass before an answer.
	ReasonDeadline = "deadline_exceeded"
	// ReasonCanceled: the caller went away while its request waited.
	ReasonCanceled = "canceled"
)

// Refusal says why a call is not let through.
type Refusal struct {
	Reason string
	// Rule is the rate or the bound that refused, "" of a queue.
	Rule string
	// RetryAfter is how long the caller should stay away; 0 is not known.
	RetryAfter time.Duration
}

// Limited reports whether the caller's own calls are the reason, and not what others
// have under way.
func (r *Refusal) Limited() bool { return r.Reason == ReasonRate }

// IsReason reports whether text is a reason of a refusal that another place may not
// share.
func IsReason(text string) bool {
	switch text {
	case ReasonRate, ReasonQueueFull, ReasonQueueDelay, ReasonBreaker:
		return true
	default:
		return false
	}
}
