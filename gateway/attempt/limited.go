package attempt

import (
	"context"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/flow"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// admit counts the call by the rates of its service. A connection that only brings
// requests is not counted here: they are.
func (r *Router) admit(plan *route.Plan, c *Call, peer catalog.ClusterName) *Error {
	if r.o.Flow == nil || c.HTTP == nil && plan.Hosts(c.Service) && plan.CarriesHTTP(c.Service, c.Port) {
		return nil
	}
	refused := r.o.Flow.Admit(&flow.Call{Service: c.Service, Caller: c.Caller, From: peer, HTTP: c.HTTP})
	if refused == nil {
		return nil
	}
	return r.limited(c.Service, refused)
}

// limited is the error of a call that a limit of this gateway refuses.
func (r *Router) limited(service catalog.ServiceName, refused *flow.Refusal) *Error {
	e := &Error{
		Reason: refused.Reason, Rule: refused.Rule, Service: service, Status: wire.Overloaded, Undelivered: true,
		Limit: Overload, RetryAfter: refused.RetryAfter,
	}
	switch refused.Reason {
	case flow.ReasonRate:
		e.Limit = RateLimit
	case flow.ReasonDeadline:
		e.Status, e.Limit = wire.DeadlineExceeded, NoLimit
	case flow.ReasonCanceled:
		e.Status, e.Limit = wire.Canceled, NoLimit
	}
	return e
}

// NextIn is Next within the limits of this gateway: the attempt has passed the breaker
// of its cluster and, for an endpoint of the own cluster, has a slot of the service, for
// which it may have waited. Where a limit refuses it, the next choice is tried: nothing
// was sent, so this is no retry.
func (s *Sequence) NextIn(ctx context.Context) (*Attempt, error) {
	if s.router.o.Flow == nil {
		return s.Next()
	}
	for {
		now := s.router.o.Now()
		a := s.pick(now)
		choice := a.Choice
		if choice.Status != route.OK {
			return nil, s.nothingLeft(choice)
		}
		pass, refused := s.enter(ctx, choice)
		if refused == nil {
			if choice.Endpoint != nil {
				now = s.router.o.Now() // it may have waited
			}
			s.begin(a, now)
			a.pass = pass
			return a, nil
		}
		a.passOver(refused.Reason, s.router.o.Now())
		s.last = s.router.limited(s.call.Service, refused)
		s.last.Cluster, s.last.Attempts, s.last.Undelivered = choice.Target.Cluster, s.attempts, !s.exposed
		if s.local || s.last.Limit == NoLimit || s.refused >= route.MaxTried {
			return nil, s.last
		}
		s.refused++
		s.tried.Add(choice.Target.Cluster, "")
	}
}

// nothingLeft is the error where nothing is left to choose.
func (s *Sequence) nothingLeft(choice route.Choice) error {
	if choice.Status == route.Shed && (s.last == nil || s.last.Status == wire.Overloaded) {
		choice.Meter.Shed(s.call.Priority, s.local)
		s.router.countShed(&s.call, s.local)
		shed := &Error{
			Reason: choice.Status.String(), Service: s.call.Service, Status: wire.Overloaded, Undelivered: !s.exposed,
			Limit: Overload, RetryAfter: shedRetryAfter, Attempts: s.attempts,
		}
		if s.last != nil {
			shed.Cluster = s.last.Cluster
		}
		return shed
	}
	if s.last != nil {
		return s.last
	}
	return &Error{Reason: choice.Status.String(), Service: s.call.Service}
}

// shedRetryAfter is how long a caller is to stay away whose call fits nowhere: grants
// follow demand within a few seconds.
const shedRetryAfter = 2 * time.Second

// enter asks for what an attempt needs. A connection to an endpoint that speaks HTTP is
// let through: its requests are asked for one by one.
func (s *Sequence) enter(ctx context.Context, choice route.Choice) (flow.Pass, *flow.Refusal) {
	own := choice.Endpoint != nil
	// What is upgraded is a connection from then on.
	request := s.call.HTTP != nil && len(s.call.HTTP.Header["Upgrade"]) == 0
	if own && s.call.HTTP == nil {
		switch choice.Port.Protocol {
		case catalog.HTTP, catalog.GRPC:
			return flow.Pass{}, nil
		case catalog.TCP, catalog.TLS, catalog.UDP:
		}
	}
	return s.router.o.Flow.Enter(ctx, &flow.Try{
		Service: s.call.Service, Cluster: choice.Target.Cluster, Own: own, Request: request, From: s.peer,
	})
}

// Enter asks for what a request needs that goes on with an attempt which a connection
// had begun. The error is *Error, and ends the attempt.
func (a *Attempt) Enter(ctx context.Context, s *Sequence) error {
	pass, refused := s.enter(ctx, a.Choice)
	if refused == nil {
		a.pass = pass
		return nil
	}
	failed := s.router.limited(s.call.Service, refused)
	failed.Cluster = a.Choice.Target.Cluster
	a.End()
	return failed
}

// refusalOf reads what a far gateway says of its limits.
func refusalOf(e *Error, message string, after time.Duration) {
	if e.Status != wire.Overloaded {
		return
	}
	e.Limit, e.RetryAfter = Overload, after
	if reason, rule := wire.LimitReason(message); flow.IsReason(reason) {
		e.Reason, e.Rule = reason, rule
		if reason == flow.ReasonRate {
			e.Limit = RateLimit
		}
	}
}

// callersOwn reports whether a far gateway's message is that of a rate: it says nothing of
// what other callers would meet there.
func callersOwn(message string) bool {
	reason, _ := wire.LimitReason(message)
	return reason == flow.ReasonRate
}
