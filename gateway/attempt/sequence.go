package attempt

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/drill"
	"github.com/isthmus-mesh/isthmus/gateway/flow"
	"github.com/isthmus-mesh/isthmus/gateway/retry"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// Sequence is the attempts of one call. It is used by one goroutine at a time.
type Sequence struct {
	router   *Router
	call     Call
	budget   *retry.Budget
	peer     catalog.ClusterName                 // whose gateway carries it; "" of a caller in this cluster
	table    *route.Table                        // that the call was judged by
	at       atomic.Pointer[catalog.ClusterName] // where the last attempt went
	local    bool                                // own endpoints only
	most     int                                 // extra attempts, beyond what the policy says
	tried    route.Tried
	attempts int
	picked   bool                // a choice was made
	refused  int                 // choices that a limit of this gateway refused
	own      int                 // failures of own endpoints
	exposed  bool                // an attempt may have been executed
	last     *Error              // the last attempt's failure
	avoid    catalog.ClusterName // the last whose link failed; only if there is nothing else
	drained  catalog.ClusterName // the last that had a gateway drain
	cookie   *http.Cookie        // to be set on the answer
	trail    []*Attempt          // all of them, for who explains the call
	room     [1]*Attempt         // of the trail: most calls need one
}

// Priority is the call's.
func (s *Sequence) Priority() route.Priority { return s.call.Priority }

// Attempts is how many were begun.
func (s *Sequence) Attempts() int { return s.attempts }

// Next chooses where the next attempt goes. When nothing is left to choose, the
// error is the last attempt's *Error, or one with the decision's status.
func (s *Sequence) Next() (*Attempt, error) {
	now := s.router.o.Now()
	a := s.pick(now)
	if a.Choice.Status != route.OK {
		return nil, s.nothingLeft(a.Choice)
	}
	s.begin(a, now)
	return a, nil
}

// begin begins an attempt that was picked.
func (s *Sequence) begin(a *Attempt, now time.Time) {
	choice := &a.Choice
	a.Number, a.began = s.attempts, now
	s.attempts++
	if choice.Endpoint != nil {
		a.endpoint = route.EndpointKey{Service: s.call.Service, Port: choice.Port.Name, ID: choice.Endpoint.ID}
	}
	s.at.Store(&a.Choice.Target.Cluster)
	a.delay.prediction = choice.Predict(&a.Record)
	choice.Begin(now.UnixNano(), &a.delay.prediction, &a.Record)
	a.delay.before = choice.Counters.InFlight()
	if choice.EndpointCounters != nil {
		choice.EndpointCounters.Begin(now.UnixNano())
	}
	if choice.ZoneCounters != nil {
		choice.ZoneCounters.Begin(now.UnixNano())
	}
	choice.Meter.Begin(s.call.Priority, s.local)
	a.drill = s.router.o.Drill.Begin(s.call.Service, s.call.Port, choice, a.delay.prediction.First, now)
}

// ownPatience is how many endpoints of the own cluster may fail a call before it
// goes elsewhere: with three dead ones the attempts would be used up here.
const ownPatience = 2

// pick makes a choice, which the trail keeps, whatever becomes of it.
func (s *Sequence) pick(now time.Time) *Attempt {
	plan := s.router.o.Board.Plan()
	a := &Attempt{Number: s.attempts, sequence: s, plan: plan, began: now}
	s.keep(a)
	s.choose(a, plan, now)
	if a.Choice.Status != route.OK {
		a.passOver(a.Choice.Status.String(), now)
		s.router.o.Drill.Begin(s.call.Service, s.call.Port, &a.Choice, 0, now).End(route.Refusal, now)
	}
	return a
}

func (s *Sequence) choose(a *Attempt, plan *route.Plan, now time.Time) {
	req := route.Request{
		Service: s.call.Service, Port: s.call.Port, Pin: s.call.Pin, Subset: s.call.Subset, Hash: s.call.Hash,
		Bytes: s.call.Bytes, Tried: s.tried, Again: s.picked, Priority: s.call.Priority, Random: s.router.o.Random(), NowNanos: now.UnixNano(),
	}
	s.picked = true
	if s.local {
		plan.PickLocalInto(&req, &a.Choice, &a.Record)
		return
	}
	avoid := s.avoid
	if s.own >= ownPatience {
		avoid = plan.Table().Cluster.Name
	}
	if avoid != "" {
		elsewhere := req
		elsewhere.Tried.Add(avoid, "")
		if plan.PickInto(&elsewhere, &a.Choice, &a.Record); a.Choice.Status == route.OK {
			return
		}
	}
	plan.PickInto(&req, &a.Choice, &a.Record)
}

// Attempt is one try of a call.
type Attempt struct {
	Choice route.Choice
	Record route.Record
	// Number is 0 for the first.
	Number int

	sequence *Sequence
	plan     *route.Plan
	pass     flow.Pass
	endpoint route.EndpointKey
	began    time.Time
	answered time.Time
	ended    bool
	delay    delay
	drill    *drill.Call
	outcome  string
	gateway  string
	err      error
}

// Header is what travels to the far gateway. deadline is the caller's, zero for
// none.
func (a *Attempt) Header(traceParent string, deadline time.Time) *wire.Header {
	h := &wire.Header{
		Service: a.Choice.Name.String(), Port: a.Choice.Port.Name, Caller: a.sequence.call.Caller,
		TraceParent: traceParent, Attempt: uint8(min(a.Number, 255)), Priority: wire.Priority(a.sequence.call.Priority),
		Hash: a.sequence.call.Hash, Subset: a.Choice.Subset,
	}
	if h.Caller != "" {
		h.Assurance = max(wire.AssuranceListener, a.sequence.call.Assurance)
	}
	if !deadline.IsZero() {
		// A deadline that has just passed still needs a value: 0 means none.
		h.Deadline = max(time.Millisecond, time.Until(deadline))
	}
	return h
}

// Replay says what of a call can be sent a second time.
type Replay uint8

const (
	// Never means that what was sent is not kept.
	Never Replay = iota
	// IfUndelivered means that it is kept, and may be sent again if nobody got it.
	IfUndelivered
	// Always means that it is kept, and may be executed twice.
	Always
)

// Fail ends an attempt that got no answer, and says whether to go on: nil asks
// for Next, after the delay has been waited. The error is *Error.
func (a *Attempt) Fail(ctx context.Context, err error, replay Replay) error {
	delay, failed := a.Failed(ctx, err, replay)
	if failed != nil {
		return failed
	}
	if waitErr := retry.Wait(ctx, delay); waitErr != nil {
		return a.sequence.last
	}
	a.sequence.GoesOn(err)
	return nil
}

// Failed is Fail without the wait: where it returns no error, the caller waits for
// delay and calls GoesOn.
func (a *Attempt) Failed(ctx context.Context, err error, replay Replay) (delay time.Duration, failed error) {
	s := a.sequence
	fault := retry.Classify(ctx, err)
	if a.Choice.Subset != "" && fault.Status == wire.NoEndpoint {
		fault.Outcome = route.Refusal // it speaks of the part, not of the service
	}
	a.outcome, a.err = fault.Status.String(), err
	far, refused := errors.AsType[*tunnel.RefusedError](err)
	if refused && !callersOwn(far.Message) {
		a.refusedBy(err)
	}
	a.finish(fault)
	s.exclude(a, fault, err)
	s.exposed = s.exposed || !fault.Undelivered
	s.last = &Error{
		Undelivered: !s.exposed, Reason: fault.Status.String(), Service: s.call.Service, Denied: fault.Status == wire.Denied,
		Status: fault.Status, Cluster: a.Choice.Target.Cluster, Attempts: s.attempts, Err: err,
	}
	if refused {
		refusalOf(s.last, far.Message, far.RetryAfter)
	}
	if replay == Never || !fault.May(replay == Always) || s.attempts > min(s.most, int(retries(a.Choice))) {
		return 0, s.last
	}
	if !s.budget.Take(s.router.o.Now()) {
		s.router.countExhausted(s.call.Service)
		return 0, s.last
	}
	return retry.Delay(s.attempts, s.router.o.Random()), nil
}

// GoesOn says that the delay after a failure has been waited and Next comes.
func (s *Sequence) GoesOn(err error) {
	s.router.countRetry(s.call.Service, s.last.Reason)
	s.router.log.Debug("attempt failed, going on", "service", s.call.Service.String(), "cluster", string(s.last.Cluster),
		"reason", s.last.Reason, "attempt", s.attempts, "err", err)
}

// retries is the most extra attempts that the traffic policy allows.
func retries(c route.Choice) uint32 {
	if c.Traffic == nil || c.Traffic.Retries == nil {
		return policy.DefaultRetries
	}
	return *c.Traffic.Retries
}

// exclude keeps the failed choice from being chosen again. Where only the link
// failed, another gateway of that cluster may carry the call; but its links may
// have died with the first one and not know it yet, so another cluster goes first.
// A gateway that drains has said so, and the other links are as good as ever: the
// cluster gets one more try.
func (s *Sequence) exclude(a *Attempt, fault retry.Fault, err error) {
	cluster, endpoint := a.Choice.Target.Cluster, a.endpoint.ID
	if fault.Outcome == route.LinkFailure && s.avoid != cluster && !noLink(err) && s.router.o.Reachable(cluster) {
		if fault.Status != wire.Draining || s.drained == cluster {
			s.avoid = cluster
		}
		s.drained = cluster
		return
	}
	s.tried.Add(cluster, endpoint)
	if endpoint != "" {
		s.own++
	}
}

// noLink reports whether there was no link at all to try.
func noLink(err error) bool {
	e, ok := errors.AsType[*tunnel.LinkError](err)
	return ok && e.Gateway == ""
}

// Answered records that the service answered: the connection is confirmed, or
// the response's header is here. ok is false for an answer that says that the
// service failed (HTTP 502, 503, 504).
func (a *Attempt) Answered(ok bool) {
	a.answered, a.outcome = a.sequence.router.o.Now(), OutcomeOK
	a.pass.Answered(ok)
	outcome := route.Success
	if !ok {
		outcome, a.outcome = route.ServiceFailure, OutcomeFailed
	}
	a.observe(outcome, false)
	if !ok {
		a.end(outcome)
		return
	}
	a.learnAnswer()
}

// End ends an answered attempt, when its last byte has passed or it broke; or one
// that its caller gave up before the answer. It is safe to call twice, and after
// Fail.
func (a *Attempt) End() {
	switch {
	case a.ended:
	case a.answered.IsZero():
		a.end(route.CallerFailure)
	default:
		a.end(route.Success)
	}
}

// finish observes and ends at once.
func (a *Attempt) finish(fault retry.Fault) {
	if a.ended {
		return
	}
	a.answered = a.sequence.router.o.Now()
	a.observe(fault.Outcome, fault.Undelivered)
	a.end(fault.Outcome)
}

func (a *Attempt) observe(outcome route.Outcome, certain bool) {
	var endpoint *route.EndpointKey
	if a.Choice.Endpoint != nil {
		endpoint = &a.endpoint
	}
	a.sequence.router.o.Board.Observe(a.Choice.Target, endpoint, outcome, certain)
	a.drill.End(outcome, a.answered)
}

func (a *Attempt) end(outcome route.Outcome) {
	a.ended = true
	a.drill.End(outcome, a.sequence.router.o.Now())
	a.pass.End()
	a.Choice.End()
	a.Choice.Meter.End(a.sequence.call.Priority, a.sequence.local)
	now := a.sequence.router.o.Now()
	for _, c := range []*route.Counters{a.Choice.Counters, a.Choice.EndpointCounters, a.Choice.ZoneCounters} {
		a.count(c, outcome, now)
	}
}
