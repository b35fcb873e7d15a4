package policy

import (
	"fmt"
	"slices"
)

// Bounds of limits.
const (
	// MaxRates bounds the rates of one policy: every call of its services looks at each.
	MaxRates = 16
	// MaxLimitRequests keeps a rate within what is counted exactly.
	MaxLimitRequests = 1_000_000_000
	// Below MinLimitIntervalMS a rate counts the clock's steps, above a day
	// (MaxLimitIntervalMS) it is a quota, which a gateway that restarts forgets.
	MinLimitIntervalMS = 10
	MaxLimitIntervalMS = 86_400_000
	// MaxConcurrencyLimit is what a gateway can hold in progress.
	MaxConcurrencyLimit = 50_000
	// MaxQueueLength bounds the requests that wait, each with its connection.
	MaxQueueLength = 10_000
	// MaxQueueMS is beyond what a caller waits for.
	MaxQueueMS = 60_000
)

func (l *Limits) validate(p problems) {
	checkCount(p, "rates", len(l.Rates), 0, MaxRates)
	for i := range l.Rates {
		at := p.at("rates[%d]", i)
		l.Rates[i].validate(at)
		for j := range i {
			if l.Rates[j].Name == l.Rates[i].Name {
				at.add("name", l.Rates[i].Name, "is the name of rates[%d] too", j)
				break
			}
		}
	}
	if c := l.Concurrency; c != nil {
		c.validate(p.at("concurrency"))
	}
	if q := l.Queue; q != nil {
		q.validate(p.at("queue"))
		if l.Concurrency == nil {
			p.add("queue", "set", "needs concurrency: without a bound nothing waits")
		}
	}
	if b := l.Breaker; b != nil && *b == (Breaker{}) {
		p.add("breaker", "", "needs max_connections, max_requests or max_pending")
	}
	if len(l.Rates) == 0 && l.Concurrency == nil && l.Queue == nil && l.Breaker == nil {
		p.add("rates", "", "limits need rates, concurrency or a breaker: empty ones limit nothing")
	}
}

func (r *RateLimit) validate(p problems) {
	checkName(p, r.Name)
	checkCount(p, "callers", len(r.Callers), 0, MaxCallers)
	for i, c := range r.Callers {
		field := fmt.Sprintf("callers[%d]", i)
		if _, err := ParseIDPattern(string(c)); err != nil {
			p.add(field, c, "%v", err)
		} else if slices.Contains(r.Callers[:i], c) {
			p.add(field, c, "is listed twice")
		}
	}
	checkCount(p, "clusters", len(r.Clusters), 0, MaxClusters)
	for i, c := range r.Clusters {
		field := fmt.Sprintf("clusters[%d]", i)
		checkCluster(p, field, c)
		if slices.Contains(r.Clusters[:i], c) {
			p.add(field, c, "is listed twice")
		}
	}
	validateHTTP(p, r.HTTP)
	for i, k := range r.Per {
		field := fmt.Sprintf("per[%d]", i)
		if k != ByCaller && k != ByCluster {
			p.add(field, k, "must be %q or %q", ByCaller, ByCluster)
		} else if slices.Contains(r.Per[:i], k) {
			p.add(field, k, "is listed twice")
		}
	}
	if r.Requests == 0 || r.Requests > MaxLimitRequests {
		p.add("requests", r.Requests, "must be 1 to %d; an intention denies all", MaxLimitRequests)
	}
	checkRange(p, "interval_ms", r.IntervalMS, MinLimitIntervalMS, MaxLimitIntervalMS)
	switch r.Algorithm {
	case "", TokenBucket:
		if r.Burst > MaxLimitRequests {
			p.add("burst", r.Burst, "at most %d", MaxLimitRequests)
		}
	case SlidingWindow:
		if r.Burst != 0 {
			p.add("burst", r.Burst, "is of %s only: a window is its own burst", TokenBucket)
		}
	default:
		p.add("algorithm", r.Algorithm, "must be %q or %q", TokenBucket, SlidingWindow)
	}
	if r.Scope != "" && r.Scope != PerCluster && r.Scope != PerGateway {
		p.add("scope", r.Scope, "must be %q or %q", PerCluster, PerGateway)
	}
}

func (c *Concurrency) validate(p problems) {
	checkRange(p, "max", c.Max, 1, MaxConcurrencyLimit)
	switch {
	case c.Floor != 0 && !c.Adaptive:
		p.add("floor", c.Floor, "is of an adaptive limit only")
	case c.Floor > c.Filled().Max:
		p.add("floor", c.Floor, "must not be above max (%d)", c.Filled().Max)
	}
	if !c.Adaptive && c.Max == 0 {
		p.add("max", 0, "must be set unless adaptive is")
	}
}

func (q *Queue) validate(p problems) {
	if q.Length > MaxQueueLength {
		p.add("length", q.Length, "at most %d", MaxQueueLength)
	}
	if q.NoWait && q.Length > 0 {
		p.add("length", q.Length, "excludes no_wait")
	}
	checkRange(p, "target_ms", q.TargetMS, 1, MaxQueueMS)
	checkRange(p, "interval_ms", q.IntervalMS, 1, MaxQueueMS)
	if f := q.Filled(); f.IntervalMS < f.TargetMS {
		p.add("interval_ms", f.IntervalMS, "must not be below target_ms (%d)", f.TargetMS)
	}
}
