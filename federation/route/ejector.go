package route

import (
	"fmt"
	"time"
)

// Outcome is whom a call's end speaks of. Only the service's own failures lead
// to an ejection; a gateway maps every typed status to one of these.
type Outcome uint8

// The outcomes of a call.
const (
	// Success: the service answered (whatever the application said).
	Success Outcome = iota
	// ServiceFailure: the service failed: refused, reset or timed out behind the
	// far gateway, or answered 502, 503 or 504.
	ServiceFailure
	// LinkFailure: the link or a gateway failed; the link's state says so.
	LinkFailure
	// Refusal: a denial, a rate limit, a full queue: the service was not asked.
	Refusal
	// CallerFailure: the caller went away, or sent what cannot be carried.
	CallerFailure
)

// EjectorOptions are the parameters of ejection; the zero value means
// DefaultEjector's.
type EjectorOptions struct {
	// Failures in a row that eject.
	Failures int
	// Base is the first ejection's length; each further one doubles it, up to
	// Max. A target that stayed in service for Max starts from Base again: one
	// success alone does not, or a target that flaps would be let in for ever.
	Base, Max time.Duration
	// Jitter spreads a length by up to this share of it, both ways, so that
	// gateways do not probe in step.
	Jitter float64
	// MaxShare is the most of a service's targets that may be ejected at once;
	// one always may.
	MaxShare float64
}

// DefaultEjector has the threshold of Envoy's outlier detection and the
// penalties of Linkerd's failure accrual (1 s to 60 s, jitter 0.5).
func DefaultEjector() EjectorOptions {
	return EjectorOptions{Failures: 5, Base: time.Second, Max: time.Minute, Jitter: 0.5, MaxShare: 0.5}
}

// Room reports whether one more of total targets may be ejected while ejected
// of them already are.
func (o EjectorOptions) Room(ejected, total int) bool {
	return ejected == 0 || float64(ejected+1) <= o.MaxShare*float64(total)
}

// Ejector is the outlier state of one target (or of one endpoint without active
// checks): closed, open (ejected) and half open (on probation). It is pure: it
// holds no clock and no lock.
type Ejector struct {
	options  EjectorOptions
	failures int // in a row, while closed
	ejected  int // ejections since the last calm
	refuted  int // failed probations of this ejection
	until    time.Time
	closed   time.Time // when the last ejection ended in a success
}

// NewEjector returns a closed ejector.
func NewEjector(o EjectorOptions) *Ejector {
	if o == (EjectorOptions{}) {
		o = DefaultEjector()
	}
	return &Ejector{options: o}
}

// Observe takes in one outcome and reports whether the state changed, which
// asks for a new plan. random drives the jitter. room says whether the cap of
// ejected targets leaves space (EjectorOptions.Room); without it a failing
// target stays in service and is ejected at its next failure with room.
func (e *Ejector) Observe(o Outcome, now time.Time, random uint64, room bool) bool {
	switch o {
	case ServiceFailure:
		return e.fail(now, random, room)
	case Success:
		e.failures = 0
		if e.until.IsZero() || now.Before(e.until) {
			// While ejected, a late answer to an older call proves nothing.
			return false
		}
		e.until, e.closed, e.refuted = time.Time{}, now, 0
		return true
	case LinkFailure, Refusal, CallerFailure:
	}
	return false
}

func (e *Ejector) fail(now time.Time, random uint64, room bool) bool {
	if now.Before(e.until) {
		return false
	}
	if e.until.IsZero() {
		e.failures++
		if e.failures < e.options.Failures || !room {
			return false
		}
		if now.Sub(e.closed) >= e.options.Max {
			e.ejected = 0
		}
	} else {
		e.refuted++
	}
	e.until = now.Add(e.length(random))
	e.ejected++
	e.failures = 0
	return true
}

// length is Base doubled per ejection since the last calm, at most Max, then spread.
func (e *Ejector) length(random uint64) time.Duration {
	d := e.options.Max
	if e.ejected < 32 && e.options.Base < e.options.Max>>e.ejected {
		d = e.options.Base << e.ejected
	}
	u := float64(random>>11) / (1 << 53) // [0, 1)
	return time.Duration(float64(d) * (1 + e.options.Jitter*(2*u-1)))
}

// Until is when the ejection ends: zero if there is none, in the past while the
// target is on probation. It is what goes into TargetEvidence.EjectedUntil.
func (e *Ejector) Until() time.Time { return e.until }

// Reason is the text for TargetEvidence.Reason, "" when closed.
func (e *Ejector) Reason() string {
	switch {
	case e.until.IsZero():
		return ""
	case e.refuted > 0:
		return fmt.Sprintf("%d failures in a row, then %d failed probations", e.options.Failures, e.refuted)
	default:
		return fmt.Sprintf("%d failures in a row", e.options.Failures)
	}
}
