package flow

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/gateway/flow/codel"
	"github.com/isthmus-mesh/isthmus/gateway/flow/fair"
	"github.com/isthmus-mesh/isthmus/gateway/flow/gradient"
	"github.com/isthmus-mesh/isthmus/gateway/flow/guard"
	"github.com/prometheus/client_golang/prometheus"
)

// slots are the requests in progress at the own endpoints of one service.
type slots struct {
	gate     *fair.Gate
	adaptive atomic.Pointer[adaptive] // nil of a fixed limit
	guarded  *guarded                 // nil where a policy sets the limit
	met      atomic.Int64             // when a request found no room at once, Unix nanoseconds
	wait     prometheus.Observer
	refused  map[fair.Reason]prometheus.Counter
}

// adaptive is a controller, which is for one goroutine at a time.
type adaptive struct {
	floor, most int

	mu         sync.Mutex
	controller *gradient.Controller
	unloaded   atomic.Int64
}

// bare is slots without a gate.
func bare(name catalog.ServiceName, m *metrics) *slots {
	s := &slots{wait: m.wait.WithLabelValues(name.String()), refused: make(map[fair.Reason]prometheus.Counter)}
	for _, r := range fair.Reasons() {
		s.refused[r] = m.queueRefused.WithLabelValues(name.String(), r.String())
	}
	return s
}

// newSlots keeps the gate of was, with what is in it.
func newSlots(name catalog.ServiceName, l *policy.Limits, was *slots, random func() uint64, m *metrics) *slots {
	rule := l.Concurrency.Filled()
	queue := policy.Queue{}
	if l.Queue != nil {
		queue = *l.Queue
	}
	queue = queue.Filled()
	o := fair.Options{
		Limit: int(rule.Max), Length: int(queue.Length),
		Delay: codel.Options{Target: time.Duration(queue.TargetMS) * time.Millisecond, Interval: time.Duration(queue.IntervalMS) * time.Millisecond},
	}
	s := bare(name, m)
	if rule.Adaptive {
		floor, most := int(rule.Floor), int(rule.Max)
		var a *adaptive
		if was != nil {
			a = was.adaptive.Load()
		}
		if a == nil || a.floor != floor || a.most != most {
			a = &adaptive{floor: floor, most: most, controller: gradient.New(gradient.Options{Floor: floor, Max: most, Random: random})}
		}
		a.mu.Lock()
		o.Limit = a.controller.Limit()
		a.mu.Unlock()
		s.adaptive.Store(a)
	}
	if was == nil {
		s.gate = fair.NewGate(o)
		return s
	}
	s.gate = was.gate
	s.gate.Set(o)
	return s
}

// need is about what a request takes.
func (s *slots) need() time.Duration {
	if s.guarded != nil {
		return time.Duration(s.guarded.usual.Load())
	}
	if a := s.adaptive.Load(); a != nil {
		return time.Duration(a.unloaded.Load())
	}
	return 0
}

// enter waits for a slot.
func (s *slots) enter(ctx context.Context, sender string) (fair.Ticket, *Refusal) {
	t, reason := s.gate.Enter(ctx, sender, s.need())
	if reason != fair.Granted || t.Waited > 0 {
		now := time.Now()
		if s.met.Store(now.UnixNano()); s.guarded != nil {
			s.guarded.meet(now)
		}
	}
	if reason == fair.Granted {
		s.wait.Observe(t.Waited.Seconds())
		return t, nil
	}
	s.refused[reason].Inc()
	switch reason {
	case fair.Hopeless:
		return t, &Refusal{Reason: ReasonDeadline}
	case fair.Gone:
		return t, &Refusal{Reason: ReasonCanceled}
	case fair.Late:
		return t, &Refusal{Reason: ReasonQueueDelay, RetryAfter: s.gate.RetryAfter(sender)}
	case fair.Full, fair.Granted:
	}
	return t, &Refusal{Reason: ReasonQueueFull, RetryAfter: s.gate.RetryAfter(sender)}
}

// answered tells of an answer, and gives the slot back where that is what it was for.
func (s *slots) answered(p *Pass, well bool) {
	now := time.Now()
	switch {
	case s.guarded != nil:
		if well {
			s.guard(now, guard.Sample{Took: now.Sub(p.began), Pending: p.progress, Answered: true})
		}
		p.ticket.Leave()
	case well:
		s.sample(now, now.Sub(p.began), p.progress)
	}
}

// unanswered tells of an attempt that ends without an answer: it took at least so long.
func (s *slots) unanswered(p *Pass) {
	now := time.Now()
	took := now.Sub(p.began)
	if s.guarded != nil {
		s.guard(now, guard.Sample{Took: took, Pending: p.progress})
	} else if s.slow(took) {
		s.sample(now, took, p.progress)
	}
}

// sample tells the adaptive limit of an answer.
func (s *slots) sample(now time.Time, took time.Duration, inProgress int) {
	a := s.adaptive.Load()
	if a == nil {
		return
	}
	a.mu.Lock()
	changed := a.controller.Sample(now.UnixNano(), took, inProgress)
	limit := a.controller.Limit()
	a.unloaded.Store(int64(a.controller.Unloaded()))
	a.mu.Unlock()
	if changed {
		s.gate.SetLimit(limit)
	}
}

// slow reports whether an attempt that was given up after took proves that the service
// is slow.
func (s *slots) slow(took time.Duration) bool {
	a := s.adaptive.Load()
	if a == nil {
		return false
	}
	unloaded := time.Duration(a.unloaded.Load())
	return unloaded > 0 && took > 2*unloaded
}
