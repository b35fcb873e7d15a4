package attempt

import (
	"errors"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
)

// The outcomes of an attempt that was answered; OutcomeFailed of an answer that says
// that the service failed (HTTP 502, 503, 504).
const (
	OutcomeOK     = "ok"
	OutcomeFailed = "service_failed"
)

// Trail are the choices so far: attempts, and those that were passed over or found
// nowhere to go. It is read when the call is over.
func (s *Sequence) Trail() []*Attempt { return s.trail }

// Adopt adds an attempt of another sequence: the connection's that this request came
// on.
func (s *Sequence) Adopt(a *Attempt) { s.keep(a) }

// keep adds to the trail. Attempts are bounded by route.MaxTried.
func (s *Sequence) keep(a *Attempt) {
	if s.trail == nil {
		s.trail = s.room[:0]
	}
	s.trail = append(s.trail, a)
}

// Kept is what explaining an attempt needs besides its Choice and Record.
type Kept struct {
	// Plan made the choice.
	Plan  *route.Plan
	Began time.Time
	// Took is the time to the answer or the failure; 0 while there is neither.
	Took time.Duration
	// Outcome is OutcomeOK or OutcomeFailed, a word of wire.Status or of route.Status,
	// or that of a limit which passed the choice over; "" if it was given up before.
	Outcome string
	// Gateway is the peer's that was asked, where it is known.
	Gateway string
	Err     error
}

// Kept is read when the call is over.
func (a *Attempt) Kept() Kept {
	k := Kept{Plan: a.plan, Began: a.began, Outcome: a.outcome, Gateway: a.gateway, Err: a.err}
	if k.Gateway == "" {
		k.Gateway = gatewayOf(a.err)
	}
	if !a.answered.IsZero() {
		k.Took = a.answered.Sub(a.began)
	}
	return k
}

// passOver ends a choice that nothing was sent to.
func (a *Attempt) passOver(outcome string, now time.Time) {
	a.ended, a.answered, a.outcome = true, now, outcome
}

// By says which gateway of the cluster took the attempt.
func (a *Attempt) By(gateway string) { a.gateway = gateway }

// gatewayOf is the peer's gateway that an error tells of, "" if none.
func gatewayOf(err error) string {
	if e, ok := errors.AsType[*tunnel.RefusedError](err); ok {
		return e.Gateway
	}
	if e, ok := errors.AsType[*tunnel.LinkError](err); ok {
		return e.Gateway
	}
	return ""
}
