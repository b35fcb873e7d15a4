package flow

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/gateway/flow/breaker"
	"github.com/isthmus-mesh/isthmus/gateway/flow/codel"
	"github.com/isthmus-mesh/isthmus/gateway/flow/fair"
	"github.com/isthmus-mesh/isthmus/gateway/flow/gradient"
	"github.com/prometheus/client_golang/prometheus"
)

// slots are the requests in progress at the own endpoints of one service.
type slots struct {
	gate     *fair.Gate
	adaptive atomic.Pointer[adaptive] // nil of a fixed limit
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
	s := &slots{wait: m.wait.WithLabelValues(name.String()), refused: make(map[fair.Reason]prometheus.Counter)}
	for _, r := range fair.Reasons() {
		s.refused[r] = m.queueRefused.WithLabelValues(name.String(), r.String())
	}
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
	if a := s.adaptive.Load(); a != nil {
		return time.Duration(a.unloaded.Load())
	}
	return 0
}

// enter waits for a slot.
func (s *slots) enter(ctx context.Context, sender string) (fair.Ticket, *Refusal) {
	t, reason := s.gate.Enter(ctx, sender, s.need())
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

// breakers are the bounds of what is under way of one service, by cluster.
type breakers struct {
	service   string
	most      breaker.Bounds
	m         *metrics
	mu        sync.RWMutex
	byCluster map[catalog.ClusterName]*cell
}

// cell is one cluster's.
type cell struct {
	breaker.Breaker
	refused [breaker.Pending + 1]prometheus.Counter
}

func newBreakers(name catalog.ServiceName, b *policy.Breaker, m *metrics) *breakers {
	return &breakers{
		service: name.String(), m: m, byCluster: make(map[catalog.ClusterName]*cell),
		most: breaker.Bounds{Connections: int64(b.MaxConnections), Requests: int64(b.MaxRequests), Pending: int64(b.MaxPending)},
	}
}

// adopt goes on with the counts of what is under way.
func (b *breakers) adopt(was *breakers) {
	was.mu.RLock()
	defer was.mu.RUnlock()
	maps.Copy(b.byCluster, was.byCluster)
}

func (b *breakers) of(cluster catalog.ClusterName) *cell {
	b.mu.RLock()
	c := b.byCluster[cluster]
	b.mu.RUnlock()
	if c != nil {
		return c
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if c = b.byCluster[cluster]; c == nil {
		c = new(cell)
		for _, k := range breaker.Kinds() {
			c.refused[k] = b.m.breakerRefused.WithLabelValues(b.service, string(cluster), k.String())
		}
		b.byCluster[cluster] = c
	}
	return c
}
