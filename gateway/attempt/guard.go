package attempt

import (
	"context"
	"errors"
	"sync"

	"github.com/isthmus-mesh/isthmus/federation/route"
)

// guards are the calls in progress that end when they are no longer allowed.
type guards struct {
	mu   sync.Mutex
	open map[*guard]struct{}
}

type guard struct {
	sequence *Sequence
	end      context.CancelCauseFunc
}

// Guard returns a context that ends with ctx, or with an *Error as its cause when a
// new table no longer allows the call: the export, the import, an intention or the
// peer's right to speak for the caller was withdrawn. release must be called when the
// call is over.
func (s *Sequence) Guard(ctx context.Context) (guarded context.Context, release func()) {
	guarded, end := context.WithCancelCause(ctx)
	g := &guard{sequence: s, end: end}
	all := &s.router.guards
	all.mu.Lock()
	if all.open == nil {
		all.open = make(map[*guard]struct{})
	}
	all.open[g] = struct{}{}
	all.mu.Unlock()
	// A table that came in force between the verdict and now was swept without it.
	if plan := s.router.o.Board.Plan(); plan != nil && plan.Table() != s.table {
		s.router.judge(g, plan)
	}
	return guarded, func() {
		all.mu.Lock()
		delete(all.open, g)
		all.mu.Unlock()
		end(context.Canceled)
	}
}

// Withdrawn returns why the call was ended whose Guard made ctx, nil if it was not.
func Withdrawn(ctx context.Context) *Error {
	failed, _ := errors.AsType[*Error](context.Cause(ctx))
	return failed
}

// Sweep ends every guarded call that the plan in force does not allow. It is called
// after a new table.
func (r *Router) Sweep() {
	plan := r.o.Board.Plan()
	if plan == nil {
		return
	}
	r.guards.mu.Lock()
	open := make([]*guard, 0, len(r.guards.open))
	for g := range r.guards.open {
		open = append(open, g)
	}
	r.guards.mu.Unlock()
	for _, g := range open {
		r.judge(g, plan)
	}
}

func (r *Router) judge(g *guard, plan *route.Plan) {
	failed := g.sequence.withdrawn(plan)
	if failed == nil {
		return
	}
	r.guards.mu.Lock()
	_, open := r.guards.open[g]
	delete(r.guards.open, g)
	r.guards.mu.Unlock()
	if !open {
		return
	}
	r.metrics.withdrawn.WithLabelValues(failed.Reason).Inc()
	r.log.Info("call in progress is no longer allowed", "service", g.sequence.call.Service.String(), "caller", g.sequence.call.Caller,
		"peer", string(g.sequence.peer), "reason", failed.Reason, "rule", failed.Rule)
	g.end(failed)
}

// withdrawn says why plan does not allow the call; nil if it does.
func (s *Sequence) withdrawn(plan *route.Plan) *Error {
	var v route.Verdict
	if s.local {
		v = plan.AuthorizeInbound(s.peer, s.call.ask())
	} else {
		v = plan.AuthorizeOutbound(s.call.ask())
	}
	if v.Allowed && !s.local {
		own := plan.Table().Cluster.Name
		if at := s.at.Load(); at != nil && *at != own && !plan.Offered(s.call.Service, *at) {
			v = route.Verdict{Reason: string(route.NotImported)}
		}
	}
	if v.Allowed {
		return nil
	}
	failed := refusal(&s.call, v)
	failed.Denied, failed.Withdrawn = true, true // also for a service that is gone: it was there
	return failed
}
