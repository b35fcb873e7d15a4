package health

import (
	"container/heap"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// MaxConcurrent bounds the checks in flight: each holds a file descriptor.
	// With the default timeout of 500 ms even dead endpoints leave 128 checks a
	// second.
	MaxConcurrent = 64
	// jitter spreads checks by up to this share of their interval, both ways.
	jitter = 0.1
	// maxDiscarded bounds how many results in a row a starved checker throws
	// away: a machine that is always starved must still notice a dead endpoint.
	maxDiscarded = 3
)

// Options configure a Checker.
type Options struct {
	// Dial makes connections; nil is a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Secure makes a connection to an endpoint of transport mtls one; nil: none can be.
	Secure func(ctx context.Context, c net.Conn, server string) (net.Conn, error)
	// Changed is called after an endpoint's state changed, from several
	// goroutines; it must not block for long. Nil is told nothing.
	Changed func(route.EndpointKey, State)
	// Random drives jitter; required.
	Random func() uint64
	// Log receives changes of state; nil discards them.
	Log *slog.Logger
	// Registerer receives the metrics; nil registers none.
	Registerer prometheus.Registerer
}

// Checker checks a set of endpoints.
type Checker struct {
	o       Options
	log     *slog.Logger
	metrics *metrics
	probes  *probes
	stall   *stallWatch
	wake    chan struct{}
	running chan struct{} // one token per check in flight

	mu      sync.Mutex
	entries map[route.EndpointKey]*entry
	queue   queue
}

// New returns a Checker of nothing.
func New(o Options) (*Checker, error) {
	if o.Random == nil {
		return nil, errors.New("health: random is required")
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Changed == nil {
		o.Changed = func(route.EndpointKey, State) {}
	}
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	return &Checker{
		o: o, log: log, metrics: m, probes: newProbes(o.Dial, o.Secure), stall: newStallWatch(),
		wake: make(chan struct{}, 1), running: make(chan struct{}, MaxConcurrent),
		entries: make(map[route.EndpointKey]*entry),
	}, nil
}

// SetTargets replaces the set of endpoints. One that stays keeps its state; one
// whose address or way of checking changed is a new one.
func (c *Checker) SetTargets(targets []Target) {
	now := time.Now()
	c.mu.Lock()
	next := make(map[route.EndpointKey]*entry, len(targets))
	for _, t := range targets {
		t.Check = filled(t.Check)
		if t.Check.Type == typeNone {
			continue
		}
		if e := c.entries[t.Key]; e != nil && e.target == t {
			next[t.Key] = e
			delete(c.entries, t.Key)
			continue
		}
		e := &entry{target: t, due: now.Add(c.part(time.Duration(t.Check.IntervalMS) * time.Millisecond))}
		next[t.Key] = e
		heap.Push(&c.queue, e)
	}
	for _, e := range c.entries { // those that did not stay
		e.removed = true
		if e.index >= 0 {
			heap.Remove(&c.queue, e.index)
		}
	}
	c.entries = next
	c.count()
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// States returns what is known: endpoints without results are not in it.
func (c *Checker) States() map[route.EndpointKey]State {
	c.mu.Lock()
	defer c.mu.Unlock()
	states := make(map[route.EndpointKey]State, len(c.entries))
	for k, e := range c.entries {
		if e.known {
			states[k] = e.state
		}
	}
	return states
}

// Run checks until ctx ends, and has waited for its checks then.
func (c *Checker) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer c.probes.close()
	wg.Go(func() { c.stall.run(ctx) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		e, wait := c.next()
		if e == nil {
			timer.Reset(wait)
			select {
			case <-ctx.Done():
				return nil
			case <-timer.C:
			case <-c.wake:
			}
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case c.running <- struct{}{}:
		}
		wg.Go(func() {
			defer func() { <-c.running }()
			c.check(ctx, e)
		})
	}
}

// next takes the entry that is due, or says how long to wait for one.
func (c *Checker) next() (*entry, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		return nil, time.Hour // until SetTargets wakes the loop
	}
	if wait := time.Until(c.queue[0].due); wait > 0 {
		return nil, wait
	}
	return heap.Pop(&c.queue).(*entry), 0
}

func (c *Checker) check(ctx context.Context, e *entry) {
	start := time.Now()
	timeout := time.Duration(e.target.Check.TimeoutMS) * time.Millisecond
	bounded, cancel := context.WithTimeout(ctx, timeout)
	err := c.probes.probe(bounded, e.target)
	cancel()
	if ctx.Err() != nil {
		return // what was cut off proves nothing
	}
	now := time.Now()
	late := isTimeout(err) && (now.Sub(start) > timeout+stallLimit || c.stall.since(start, now))

	c.mu.Lock()
	if e.removed {
		c.mu.Unlock()
		return
	}
	interval := time.Duration(e.target.Check.IntervalMS) * time.Millisecond
	e.due = start.Add(interval - c.part(time.Duration(jitter*float64(interval))) + c.part(time.Duration(jitter*float64(interval))))
	heap.Push(&c.queue, e)
	c.signal(e)
	if late && e.discarded < maxDiscarded {
		e.discarded++
		c.mu.Unlock()
		c.metrics.checks.WithLabelValues(resultDiscarded).Inc()
		return
	}
	changed := e.take(failure(err), now)
	state := e.state
	if changed {
		c.count()
	}
	c.mu.Unlock()

	if err == nil {
		c.metrics.checks.WithLabelValues(resultOK).Inc()
	} else {
		c.metrics.checks.WithLabelValues(resultFailed).Inc()
	}
	if changed {
		c.log.Info("endpoint health changed", "service", e.target.Key.Service.String(), "port", e.target.Key.Port,
			"endpoint", e.target.Key.ID, "status", word(state.Healthy), "reason", state.Reason)
		c.o.Changed(e.target.Key, state)
	}
}

// signal wakes the loop if e is due before what it waits for.
func (c *Checker) signal(e *entry) {
	if e.index != 0 {
		return
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// count sets the gauges.
func (c *Checker) count() {
	var healthy, unhealthy, unknown float64
	for _, e := range c.entries {
		switch {
		case !e.known:
			unknown++
		case e.state.Healthy:
			healthy++
		default:
			unhealthy++
		}
	}
	c.metrics.endpoints.WithLabelValues(word(true)).Set(healthy)
	c.metrics.endpoints.WithLabelValues(word(false)).Set(unhealthy)
	c.metrics.endpoints.WithLabelValues("unknown").Set(unknown)
}

// part is an evenly drawn part of d.
func (c *Checker) part(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(c.o.Random() % uint64(d))
}

func word(healthy bool) string {
	if healthy {
		return "healthy"
	}
	return "unhealthy"
}
