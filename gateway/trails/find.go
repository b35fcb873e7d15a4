package trails

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// MaxFound bounds the trails of one answer.
const MaxFound = 100

// Query says which trails are asked for; an empty field is any.
type Query struct {
	TraceID, RequestID string
	Service            catalog.ServiceName
	// Limit is how many, the latest first; at most MaxFound, which 0 stands for.
	Limit int
	// Before leaves out trails that ended after that mark; 0 leaves out none.
	Before uint64
	// Saved adds to each attempt what its decision had read.
	Saved bool
}

func (q *Query) fits(c *call) bool {
	return c.id != 0 && (q.Before == 0 || c.id < q.Before) &&
		(q.TraceID == "" || c.trail.TraceID == q.TraceID) &&
		(q.RequestID == "" || c.trail.RequestID == q.RequestID) &&
		(q.Service.IsZero() || c.trail.Service == q.Service)
}

// Find returns the trails that fit, the latest first.
func (r *Ring) Find(q Query) (found Answer) {
	limit := q.Limit
	if limit <= 0 || limit > MaxFound {
		limit = MaxFound
	}
	calls := r.fitting(&q)
	if len(calls) > limit {
		calls = calls[:limit]
		found.Before = calls[limit-1].id
	}
	for i := range calls {
		t := calls[i].explain()
		r.check(&t)
		if q.Saved {
			r.save(&calls[i], &t, &found.SavedTrails)
		}
		found.Trails = append(found.Trails, t)
	}
	return found
}

// save adds what the decisions of c, of which t tells, had read.
func (r *Ring) save(c *call, t *route.Trail, to *route.SavedTrails) {
	if to.Plans == nil {
		to.Plans = make(map[string]*route.SavedPlan)
	}
	for i := range c.attempts {
		k := &c.attempts[i]
		name := r.o.Gateway + "/" + strconv.FormatUint(k.plan.id, 10)
		if to.Plans[name] == nil {
			to.Plans[name] = k.plan.plan.Save()
		}
		t.Attempts[i].Saved = route.SaveDecision(name, &k.record, &k.choice)
	}
}

// fitting copies the calls; what they point to never changes.
func (r *Ring) fitting(q *Query) []call {
	r.mu.Lock()
	defer r.mu.Unlock()
	var calls []call
	for k := range r.rings {
		for i := range r.rings[k].calls {
			if c := &r.rings[k].calls[i]; q.fits(c) {
				calls = append(calls, *c)
			}
		}
	}
	slices.SortFunc(calls, func(a, b call) int { return cmp.Compare(b.id, a.id) })
	return calls
}

// explain repeats the decisions of a call.
func (c *call) explain() route.Trail {
	t := c.trail
	t.Attempts = make([]route.TrailAttempt, 0, len(c.attempts))
	for i := range c.attempts {
		k := &c.attempts[i]
		a := route.TrailOf(k.plan.plan, k.record, &k.choice)
		a.Gateway, a.Began, a.Took, a.Outcome, a.Error = k.attempt.Gateway, k.attempt.Began, k.attempt.Took, k.attempt.Outcome, k.attempt.Error
		t.Attempts = append(t.Attempts, a)
	}
	return t
}

// check counts decisions whose repetition says otherwise: a fault of ours.
func (r *Ring) check(t *route.Trail) {
	for i := range t.Attempts {
		if !t.Attempts[i].Exact {
			r.metrics.inexact.Inc()
		}
	}
}
