package attempt

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// delay is what an attempt learns of how long calls take.
type delay struct {
	prediction route.Prediction
	// before is how many calls were in progress when it began, itself included.
	before int64
	// uploaded is the Unix time in nanoseconds at which the request's last byte was
	// taken: 0 is with the first, uploading that it is still on its way.
	uploaded atomic.Int64
	// refused: the service said to come again, after a while.
	refused bool
	after   time.Duration
}

const uploading = -1

// Prediction is what the attempt was expected to take when it was chosen.
func (a *Attempt) Prediction() route.Prediction { return a.delay.prediction }

// Uploading says that the request has a body, and Uploaded that its last byte was
// taken, from any goroutine: what passes from there to the answer is the service's.
func (a *Attempt) Uploading() { a.delay.uploaded.CompareAndSwap(0, uploading) }

// Uploaded is described at Uploading.
func (a *Attempt) Uploaded() {
	a.delay.uploaded.CompareAndSwap(uploading, a.sequence.router.o.Now().UnixNano())
}

// Refused says before Answered that the answer is a refusal or a failure that names
// the time after which to come again, 0 if it does not. It says nothing of the
// service's health; but a service that refuses fast must not look fast.
func (a *Attempt) Refused(after time.Duration) { a.delay.refused, a.delay.after = true, after }

// refusedBy is Refused of a gateway's own refusal.
func (a *Attempt) refusedBy(err error) {
	if e, ok := errors.AsType[*tunnel.RefusedError](err); ok && e.Status == wire.Overloaded {
		a.Refused(e.RetryAfter)
	}
}

// learnAnswer compares the answer with its prediction.
func (a *Attempt) learnAnswer() {
	c := &a.Choice
	if c.Forecast == nil || a.delay.refused {
		return
	}
	now := a.answered.UnixNano()
	first := a.answered.Sub(a.began)
	c.Counters.Correct(now, &a.delay.prediction, first)
	c.Forecast.Observe(now, &a.delay.prediction, first)
	if c.Endpoint == nil {
		return
	}
	switch up := a.delay.uploaded.Load(); {
	case up == uploading: // an answer that does not wait for its question
	case up > 0:
		c.Forecast.Processed(now, time.Duration(now-up), a.delay.before, c.Lanes())
	default:
		c.Forecast.Processed(now, first, a.delay.before, c.Lanes())
	}
}

// Moved says at the end of an answered call how many bytes it moved, and whether that
// was one request with its answer, not a connection that lives on.
func (a *Attempt) Moved(sent, received int64, request bool) {
	c := &a.Choice
	if a.ended || a.answered.IsZero() || a.delay.refused || c.Sizes == nil {
		return
	}
	now := a.sequence.router.o.Now()
	c.Sizes.Observe(now.UnixNano(), sent, received)
	if request && c.Forecast != nil {
		c.Forecast.ObserveWhole(now.UnixNano(), &a.delay.prediction, now.Sub(a.began))
	}
}

// count ends the attempt in counters.
func (a *Attempt) count(c *route.Counters, outcome route.Outcome, now time.Time) {
	took := a.answered.Sub(a.began)
	switch {
	case c == nil:
	case outcome == route.ServiceFailure:
		c.End(now.UnixNano(), max(took, min(a.delay.after, route.MaxRefusal)), false)
	case a.delay.refused && (outcome == route.Success || outcome == route.Refusal):
		c.Refuse(now.UnixNano(), took, a.delay.after)
	case outcome == route.Success && now.Sub(a.answered) <= route.Decay:
		c.End(now.UnixNano(), took, true)
	default:
		// Either it says nothing of the service, or it said so long ago: how
		// fast a connection was made an hour before is no sample of now.
		c.Cancel()
	}
}
