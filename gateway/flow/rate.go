package flow

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/flow/bucket"
	"github.com/isthmus-mesh/isthmus/gateway/flow/window"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// maxEntries bounds the budgets of one rate: callers beyond share one.
	maxEntries = 10_000
	// sweepPause is the least time between two searches for budgets that may be
	// forgotten, when there are too many.
	sweepPause = time.Second
)

// rate is one limit of calls per time.
type rate struct {
	rule                policy.RateLimit // filled
	service             catalog.ServiceName
	matcher             *policy.RateMatcher
	perCaller, perOther bool // of callers, of clusters
	shares              *shares
	admitted, refused   prometheus.Counter

	mu      sync.RWMutex
	entries map[entryKey]*entry
	swept   int64
}

type entryKey struct {
	caller  string
	cluster catalog.ClusterName
}

// rest is the budget of callers beyond maxEntries; no caller is called so.
var rest = entryKey{caller: "*"}

// entry is one budget.
type entry struct {
	rate *rate
	key  entryKey

	mu     sync.Mutex
	bucket bucket.Bucket
	window window.Window
	limit  bucket.Limit
	calls  float64 // of the window
	part   float64 // that limit and calls are of

	// Of shared budgets: what was asked for, and what may be used.
	offered  atomic.Int64
	lease    atomic.Pointer[lease] // nil before the first
	lastSeen atomic.Int64
}

func newRate(name catalog.ServiceName, rule policy.RateLimit, sh *shares, m *metrics) *rate {
	return &rate{
		rule: rule, service: name, matcher: policy.NewRateMatcher(&rule), shares: sh,
		perCaller: slices.Contains(rule.Per, policy.ByCaller), perOther: slices.Contains(rule.Per, policy.ByCluster),
		admitted: m.calls.WithLabelValues(name.String(), rule.Name, "admitted"),
		refused:  m.calls.WithLabelValues(name.String(), rule.Name, "refused"),
		entries:  make(map[entryKey]*entry),
	}
}

// adopt takes over what was counted.
func (r *rate) adopt(was *rate) {
	was.mu.RLock()
	defer was.mu.RUnlock()
	for k, e := range was.entries {
		e.mu.Lock()
		mine := &entry{rate: r, key: k, bucket: e.bucket, window: e.window, part: -1}
		e.mu.Unlock()
		mine.lease.Store(e.lease.Load())
		mine.offered.Store(e.offered.Load())
		mine.lastSeen.Store(e.lastSeen.Load())
		r.entries[k] = mine
	}
}

// entry finds or makes the budget of a call.
func (r *rate) entry(caller string, from catalog.ClusterName, now int64) *entry {
	var k entryKey
	if r.perCaller {
		k.caller = caller
	}
	if r.perOther {
		k.cluster = from
	}
	r.mu.RLock()
	e := r.entries[k]
	r.mu.RUnlock()
	if e == nil {
		e = r.make(k, now)
	}
	return e
}

func (r *rate) make(k entryKey, now int64) *entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.entries) >= maxEntries {
		if now-r.swept >= int64(sweepPause) {
			r.swept = now
			for key, e := range r.entries {
				if e.idle(now) {
					delete(r.entries, key)
				}
			}
		}
		if len(r.entries) >= maxEntries {
			k = rest
		}
	}
	e := r.entries[k]
	if e == nil {
		e = &entry{rate: r, key: k, part: -1}
		r.entries[k] = e
	}
	return e
}

// idle reports whether the budget says no more than a new one.
func (e *entry) idle(now int64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.rate.rule.Algorithm == policy.SlidingWindow {
		return e.window.Empty(now, e.rate.rule.Interval())
	}
	return e.bucket.Full(now)
}

// take takes a call's worth.
func (e *entry) take(now int64) (wait time.Duration, ok bool) {
	part := 1.0
	if e.rate.rule.Scope == policy.PerCluster {
		e.offered.Add(1)
		e.lastSeen.Store(now)
		part = e.rate.shares.part(e.lease.Load(), now)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if part != e.part {
		e.resize(part)
	}
	if e.rate.rule.Algorithm == policy.SlidingWindow {
		return e.window.Take(now, window.Limit{Calls: e.calls, Width: e.rate.rule.Interval()})
	}
	return e.bucket.Take(now, e.limit)
}

// resize works out the limit of a part of the whole. Less than one call is one: a
// gateway that may never let one through would not be a limit, but an outage.
func (e *entry) resize(part float64) {
	r := &e.rate.rule
	e.part = part
	perSecond := float64(r.Requests) / r.Interval().Seconds()
	e.limit = bucket.NewLimit(perSecond*part, float64(r.Burst)*part)
	e.calls = max(1, float64(r.Requests)*part)
}

func (e *entry) give() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.rate.rule.Algorithm == policy.SlidingWindow {
		e.window.Give()
		return
	}
	e.bucket.Give(e.limit)
}

// budget names the entry to the federation.
func (e *entry) budget() route.Budget {
	return route.Budget{Service: e.rate.service, Rate: e.rate.rule.Name, Caller: e.key.caller, Cluster: e.key.cluster}
}
