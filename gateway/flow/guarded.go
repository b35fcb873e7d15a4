package flow

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/flow/codel"
	"github.com/isthmus-mesh/isthmus/gateway/flow/fair"
	"github.com/isthmus-mesh/isthmus/gateway/flow/guard"
)

// guardHold is how long a request without an answer counts: what takes longer waits by
// nature, as a watch does, and must not keep others out.
const guardHold = 10 * time.Second

// guarded is the limit of a service that has none by policy: there is one only while the
// service is overloaded.
type guarded struct {
	service catalog.ServiceName
	c       *Controller

	mu    sync.Mutex
	guard guard.Guard
	usual atomic.Int64 // latency in health
	holds atomic.Bool
}

// guardOf finds or makes the guard of a service.
func (c *Controller) guardOf(name catalog.ServiceName) *slots {
	if s := c.guardIf(name); s != nil {
		return s
	}
	c.guarding.Lock()
	defer c.guarding.Unlock()
	if s := c.guards[name]; s != nil {
		return s
	}
	s := bare(name, c.metrics)
	s.guarded = &guarded{service: name, c: c}
	s.gate = fair.NewGate(guardRule(0))
	c.guards[name] = s
	return s
}

// guardIf is the guard of a service, nil if it has none.
func (c *Controller) guardIf(name catalog.ServiceName) *slots {
	c.guarding.RLock()
	defer c.guarding.RUnlock()
	return c.guards[name]
}

// guardRule is that of a guard's gate with a limit; 0 is none.
func guardRule(limit int) fair.Options {
	queue := policy.Queue{}.Filled()
	if limit <= 0 {
		limit = policy.MaxConcurrencyLimit
	}
	return fair.Options{
		Limit: limit, Length: int(queue.Length), Hold: guardHold,
		Delay: codel.Options{Target: time.Duration(queue.TargetMS) * time.Millisecond, Interval: time.Duration(queue.IntervalMS) * time.Millisecond},
	}
}

// keepGuards forgets the guards of services that are gone or have a limit by policy now.
func (c *Controller) keepGuards(t *route.Table, limits map[catalog.ServiceName]*service) {
	c.guarding.Lock()
	defer c.guarding.Unlock()
	keep := make(map[catalog.ServiceName]*slots)
	for i := range t.Services {
		name := t.Services[i].Name
		if s := c.guards[name]; s != nil && (limits[name] == nil || limits[name].slots == nil) {
			keep[name] = s
		}
	}
	for name := range c.guards {
		if keep[name] == nil {
			c.metrics.retireGuard(name, limits[name])
		}
	}
	c.guards = keep
}

// meet tells the guard that a request found no room at once.
func (g *guarded) meet(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.guard.Meet(now.UnixNano())
}

// guard tells the guard of a request.
func (s *slots) guard(now time.Time, sample guard.Sample) {
	g := s.guarded
	g.mu.Lock()
	change := g.guard.Take(now.UnixNano(), sample)
	limit := g.guard.Limit()
	g.usual.Store(int64(g.guard.Usual()))
	if change != guard.None {
		g.holds.Store(limit > 0)
		s.gate.SetLimit(guardRule(limit).Limit)
	}
	g.mu.Unlock()
	if change == guard.None {
		return
	}
	log, m := g.c.o.Log, g.c.metrics.overloads
	switch service := g.service.String(); change {
	case guard.Begun:
		s.met.Store(now.UnixNano())
		m.WithLabelValues(service, "begun").Inc()
		log.Warn("service is overloaded: requests are limited", "service", service, "count", limit)
	case guard.Ended:
		m.WithLabelValues(service, "ended").Inc()
		log.Info("service is no longer overloaded: requests are not limited", "service", service)
	case guard.Futile:
		m.WithLabelValues(service, "futile").Inc()
		log.Warn("limiting requests did not help the service: they are not limited", "service", service)
	case guard.None, guard.Moved:
	}
}

const (
	// learnedUse is the part of a limit that must be in use for it to be believed, and
	// learnedFor how long that is believed.
	learnedUse = 0.7
	learnedFor = 10 * time.Second
	// leastLearned is the smallest limit of a policy that is offered. Of a smaller one the
	// noise of arrivals is most: calls that wait a moment in the queue here would be shed at
	// their source. A guard's is offered whatever it is: the service is in trouble, and calls
	// that it cannot take must find another cluster.
	leastLearned = 32
)

// learned is how many requests in progress the service was found to take, if its callers
// have shown of late that it is no more.
func (s *slots) learned() (limit int, ok bool) {
	if g := s.guarded; g != nil && !g.holds.Load() || g == nil && s.adaptive.Load() == nil {
		return 0, false
	}
	status, now := s.gate.Status(), time.Now().UnixNano()
	if s.guarded == nil && status.Limit < leastLearned {
		return 0, false
	}
	last := s.met.Load()
	if last == 0 || now-last > int64(learnedFor) {
		return 0, false // an initial limit is only a guess
	}
	if float64(status.InProgress) >= learnedUse*float64(status.Limit) {
		s.met.Store(now)
	}
	return status.Limit, true
}
