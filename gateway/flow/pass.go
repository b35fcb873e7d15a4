package flow

import (
	"context"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/gateway/flow/breaker"
	"github.com/isthmus-mesh/isthmus/gateway/flow/fair"
)

// breakerRetryAfter is what a caller is told to wait where a bound is reached: what is
// under way ends at its own pace, which is not known.
const breakerRetryAfter = time.Second

// Try is one attempt, whose cluster has been chosen.
type Try struct {
	Service catalog.ServiceName
	Cluster catalog.ClusterName
	// Own says that it goes to an endpoint of the own cluster.
	Own bool
	// Request says that it is an HTTP request, and not a connection.
	Request bool
	// From is the cluster whose gateway brings it, "" of a caller in this one.
	From catalog.ClusterName
}

// Pass is an attempt that was let through. The zero value is one that no limit knows.
type Pass struct {
	cell     *cell
	kind     breaker.Kind
	slots    *slots
	ticket   fair.Ticket
	progress int
	began    time.Time
	answered bool
	ended    bool
}

// Enter lets an attempt through, after a wait where there is a queue. ctx is the
// caller's. End must be called for what was let through.
func (c *Controller) Enter(ctx context.Context, t *Try) (p Pass, refused *Refusal) {
	if c == nil {
		return Pass{}, nil
	}
	s := c.of(t.Service)
	if s != nil && s.breaks != nil {
		p.kind = breaker.Connections
		if t.Request {
			p.kind = breaker.Requests
		}
		cell := s.breaks.of(t.Cluster)
		if over := cell.Enter(p.kind, s.breaks.most); over != breaker.None {
			cell.refused[over].Inc()
			return Pass{}, &Refusal{Reason: ReasonBreaker, Rule: over.String(), RetryAfter: breakerRetryAfter}
		}
		p.cell = cell
	}
	if !t.Own || !t.Request {
		return p, nil
	}
	var slots *slots
	if s != nil && s.slots != nil {
		slots = s.slots
	} else {
		slots = c.guardOf(t.Service)
	}
	if p.ticket, refused = slots.enter(ctx, string(t.From)); refused != nil {
		p.End()
		return Pass{}, refused
	}
	p.slots, p.progress, p.began = slots, p.ticket.InProgress, time.Now()
	return p, nil
}

// Answered tells that the service answered; well says that the answer is the service's
// own work, and not an error of what stands before it, which comes quicker.
func (p *Pass) Answered(well bool) {
	if p.answered {
		return
	}
	p.answered = true
	if p.cell != nil {
		p.cell.Answered()
	}
	if p.slots != nil {
		p.slots.answered(p, well)
	}
}

// End gives back what the attempt held. It is safe to call twice.
func (p *Pass) End() {
	if p.ended {
		return
	}
	p.ended = true
	if p.slots != nil && !p.answered {
		p.slots.unanswered(p)
	}
	if p.cell != nil {
		if !p.answered {
			p.cell.Answered()
		}
		p.cell.Leave(p.kind)
	}
	p.ticket.Leave()
}
