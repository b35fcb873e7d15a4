package flow

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/prometheus/client_golang/prometheus"
)

// Options configure a Controller. All fields are optional.
type Options struct {
	// Random spreads measurements; nil is none.
	Random func() uint64
	// Registerer receives the metrics.
	Registerer prometheus.Registerer
	// Log says when a service is overloaded; nil is silent.
	Log *slog.Logger
}

// Controller is the limits in force. It is safe for concurrent use.
type Controller struct {
	o        Options
	metrics  *metrics
	services atomic.Pointer[map[catalog.ServiceName]*service]
	own      atomic.Pointer[catalog.ClusterName]

	guarding sync.RWMutex
	guards   map[catalog.ServiceName]*slots // of services without a limit of a policy

	setting sync.Mutex // of SetTable
	shares  shares
}

// service is the limits of one service.
type service struct {
	name   catalog.ServiceName
	limits *policy.Limits // the pointer that it was compiled from
	rates  []*rate
	slots  *slots    // nil without a concurrency
	breaks *breakers // nil without a breaker
}

// New returns a controller that limits nothing.
func New(o Options) (*Controller, error) {
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := &Controller{o: o, metrics: m, guards: make(map[catalog.ServiceName]*slots)}
	m.refresh = c.refresh
	c.services.Store(new(map[catalog.ServiceName]*service))
	c.own.Store(new(catalog.ClusterName))
	return c, nil
}

// SetTable puts the limits of a checked table in force.
func (c *Controller) SetTable(t *route.Table) {
	c.setting.Lock()
	defer c.setting.Unlock()
	c.own.Store(&t.Cluster.Name)
	c.shares.gateways(t.Gateways)
	before := *c.services.Load()
	next := make(map[catalog.ServiceName]*service)
	for i := range t.Services {
		s := &t.Services[i]
		if s.Traffic == nil || s.Traffic.Limits == nil || s.Name.IsFederation() {
			continue
		}
		old := before[s.Name]
		if old != nil && old.limits == s.Traffic.Limits {
			next[s.Name] = old
			continue
		}
		next[s.Name] = c.compile(s.Name, s.Traffic.Limits, old)
	}
	for name, old := range before {
		if next[name] == nil {
			c.metrics.retire(old)
		}
	}
	c.services.Store(&next)
	c.keepGuards(t, next)
}

// compile makes the limits of a service; what old has counted by a rule of the same name
// and counting goes on.
func (c *Controller) compile(name catalog.ServiceName, l *policy.Limits, old *service) *service {
	s := &service{name: name, limits: l}
	for i := range l.Rates {
		rule := l.Rates[i].Filled()
		r := newRate(name, rule, &c.shares, c.metrics)
		if old != nil {
			for _, was := range old.rates {
				if was.rule.Name == rule.Name && sameCounting(&was.rule, &rule) {
					r.adopt(was)
				}
			}
		}
		s.rates = append(s.rates, r)
	}
	if l.Concurrency != nil {
		var was *slots
		if old != nil {
			was = old.slots
		}
		s.slots = newSlots(name, l, was, c.o.Random, c.metrics)
	}
	if l.Breaker != nil {
		s.breaks = newBreakers(name, l.Breaker, c.metrics)
		if old != nil && old.breaks != nil {
			s.breaks.adopt(old.breaks)
		}
	}
	if old != nil {
		c.metrics.retireRates(old, s)
	}
	return s
}

// sameCounting reports whether what was counted by a means something to b.
func sameCounting(a, b *policy.RateLimit) bool {
	if a.Algorithm != b.Algorithm || a.IntervalMS != b.IntervalMS || len(a.Per) != len(b.Per) {
		return false
	}
	for i := range a.Per {
		if a.Per[i] != b.Per[i] {
			return false
		}
	}
	return true
}

// of finds the limits of a service; nil is none.
func (c *Controller) of(name catalog.ServiceName) *service { return (*c.services.Load())[name] }

// Call is what rates judge a call by.
type Call struct {
	Service catalog.ServiceName
	Caller  string
	// From is the cluster whose gateway brings the call, "" of a caller in this one.
	From catalog.ClusterName
	// HTTP is the request; nil of a connection.
	HTTP *policy.HTTPRequest
}

// Admit counts a call by every rate that matches it; nil lets it through. A call that one
// rate refuses is counted by none.
func (c *Controller) Admit(call *Call) *Refusal {
	if c == nil {
		return nil
	}
	s := c.of(call.Service)
	if s == nil || len(s.rates) == 0 {
		return nil
	}
	from := call.From
	if from == "" {
		from = *c.own.Load()
	}
	now := time.Now().UnixNano()
	var taken [policy.MaxRates]*entry
	n := 0
	for _, r := range s.rates {
		if !r.matcher.Match(call.Caller, from, call.HTTP) {
			continue
		}
		e := r.entry(call.Caller, from, now)
		wait, ok := e.take(now)
		if !ok {
			for _, t := range taken[:n] {
				t.give()
			}
			r.refused.Inc()
			return &Refusal{Reason: ReasonRate, Rule: r.rule.Name, RetryAfter: wait}
		}
		if n < len(taken) {
			taken[n], n = e, n+1
		}
		r.admitted.Inc()
	}
	return nil
}

// LearnedLimit is how many requests in progress the endpoints of a service in the own
// cluster were found to take through this gateway. ok is false where that is not known:
// no limit was found, or callers have not met it of late, so that it proves nothing.
func (c *Controller) LearnedLimit(name catalog.ServiceName) (limit int, ok bool) {
	if c == nil {
		return 0, false
	}
	if s := c.of(name); s != nil && s.slots != nil {
		return s.slots.learned()
	}
	if s := c.guardIf(name); s != nil {
		return s.learned()
	}
	return 0, false
}
