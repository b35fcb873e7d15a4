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
	// Max. A target that stayed in full service for Max starts from Base again: one
	// success alone does not, or a target that flaps would be let in for ever.
	Base, Max time.Duration
	// OutlierBase is the length of an ejection as an outlier (Outliers), times the number
	// of those, up to OutlierMax: a target that fails in part passes a probation by luck.
	OutlierBase, OutlierMax time.Duration
	// Jitter spreads a length by up to this share of it, both ways, so that
	// gateways do not probe in step.
	Jitter float64
	// MaxShare is the most of a service's targets that may be ejected at once;
	// one always may.
	MaxShare float64
}

// DefaultEjector has the threshold of Envoy's outlier detection, the penalties of
// Linkerd's failure accrual (1 s to 60 s, jitter 0.5) for failures in a row, and Envoy's
// (30 s times their number, up to 300 s) for outliers.
func DefaultEjector() EjectorOptions {
	return EjectorOptions{
		Failures: 5, Base: time.Second, Max: time.Minute, Jitter: 0.5, MaxShare: 0.5,
		OutlierBase: 30 * time.Second, OutlierMax: 300 * time.Second,
	}
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
	ejected  int // ejections for failures in a row since the last calm
	outliers int // ejections as an outlier since then
	refuted  int // failed probations of this ejection
	until    time.Time
	closed   time.Time // since when it is in full service after the last ejection
	outlier  string    // why, of an ejection as an outlier
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
		e.until, e.closed, e.refuted, e.outlier = time.Time{}, now, 0, ""
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
		e.calm(now)
	} else {
		e.refuted++
	}
	e.eject(now, e.doubled(), random)
	e.ejected++
	return true
}

// Eject ejects a target in service as an outlier, for a reason in words, and reports
// whether the state changed.
func (e *Ejector) Eject(now time.Time, random uint64, reason string) bool {
	if !e.until.IsZero() {
		return false
	}
	e.calm(now)
	e.outlier = reason
	e.outliers++ // of its own: the short ejections of one bad moment are soon many
	e.eject(now, min(e.options.OutlierBase*time.Duration(e.outliers), e.options.OutlierMax), random)
	return true
}

// Held says that at now a fail-back holds back some of the target's load: it is not in
// full service, and has yet to show that it is well.
func (e *Ejector) Held(now time.Time) { e.closed = now }

// calm forgets ejections of long ago.
func (e *Ejector) calm(now time.Time) {
	if now.Sub(e.closed) >= e.options.Max {
		e.ejected, e.outliers = 0, 0
	}
}

func (e *Ejector) eject(now time.Time, length time.Duration, random uint64) {
	u := float64(random>>11) / (1 << 53) // [0, 1)
	e.until = now.Add(time.Duration(float64(length) * (1 + e.options.Jitter*(2*u-1))))
	e.failures = 0
}

// doubled is Base doubled per ejection since the last calm, at most Max.
func (e *Ejector) doubled() time.Duration {
	if e.ejected < 32 && e.options.Base < e.options.Max>>e.ejected {
		return e.options.Base << e.ejected
	}
	return e.options.Max
}

// Until is when the ejection ends: zero if there is none, in the past while the
// target is on probation. It is what goes into TargetEvidence.EjectedUntil.
func (e *Ejector) Until() time.Time { return e.until }

// Reason is the text for TargetEvidence.Reason, "" when closed.
func (e *Ejector) Reason() string {
	first := e.outlier
	if first == "" {
		first = fmt.Sprintf("%d failures in a row", e.options.Failures)
	}
	switch {
	case e.until.IsZero():
		return ""
	case e.refuted > 0:
		return fmt.Sprintf("%s, then %d failed probations", first, e.refuted)
	default:
		return first
	}
}
