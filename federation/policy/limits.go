package policy

import (
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Limits are how much of a service's calls a gateway of this cluster lets through: from
// workloads here, and from peers' gateways to endpoints here. Each covered service is
// counted by itself. What is not set limits nothing, but for requests in progress while a
// service is overloaded.
type Limits struct {
	// Rates are limits of calls per time; every one that matches a call must have room
	// for it.
	Rates []RateLimit `json:"rates,omitempty" yaml:"rates,omitempty"`
	// Concurrency bounds the HTTP requests in progress at endpoints of this cluster,
	// per gateway. Without it they are bounded only while the service is overloaded.
	Concurrency *Concurrency `json:"concurrency,omitempty" yaml:"concurrency,omitempty"`
	// Queue is where requests wait that Concurrency has no room for; nil is the default
	// queue.
	Queue *Queue `json:"queue,omitempty" yaml:"queue,omitempty"`
	// Breaker bounds what is under way to each cluster, per gateway.
	Breaker *Breaker `json:"breaker,omitempty" yaml:"breaker,omitempty"`
}

// LimitAlgorithm says how a rate is counted.
type LimitAlgorithm string

// The algorithms of rates.
const (
	// TokenBucket is a steady rate with a burst, and the default.
	TokenBucket LimitAlgorithm = "token_bucket"
	// SlidingWindow is at most Requests in any interval, by the moving average of two
	// windows.
	SlidingWindow LimitAlgorithm = "sliding_window"
)

// LimitScope says whose calls share one budget.
type LimitScope string

// The scopes of rates.
const (
	// PerCluster is one budget for all gateways of the cluster: each holds a share that
	// follows its demand. It is the default.
	PerCluster LimitScope = "cluster"
	// PerGateway is a budget for each gateway.
	PerGateway LimitScope = "gateway"
)

// LimitKey says what a rate is split by.
type LimitKey string

// The keys of rates.
const (
	ByCaller  LimitKey = "caller"
	ByCluster LimitKey = "cluster"
)

// RateLimit is one limit of calls per time. A call is an HTTP request, or a connection
// where requests are not seen.
type RateLimit struct {
	// Name is unique in the policy; it is the reason that a refused caller is given.
	Name string `json:"name" yaml:"name"`
	// Callers, Clusters and HTTP say which calls count: those that meet all of them.
	// Callers are SPIFFE ID patterns; none is any.
	Callers []IDPattern `json:"callers,omitempty" yaml:"callers,omitempty"`
	// Clusters are those whose callers count, the own one among them; none is any.
	Clusters []catalog.ClusterName `json:"clusters,omitempty" yaml:"clusters,omitempty"`
	// HTTP are conditions on requests, one of which must hold; none is any call.
	HTTP []HTTPCondition `json:"http,omitempty" yaml:"http,omitempty"`
	// Per splits the limit: "caller", "cluster" or both have a budget each. Empty is
	// one budget for all.
	Per []LimitKey `json:"per,omitempty" yaml:"per,omitempty"`
	// Requests in IntervalMS milliseconds (0 means 1000).
	Requests   uint32 `json:"requests" yaml:"requests"`
	IntervalMS uint32 `json:"interval_ms,omitempty" yaml:"interval_ms,omitempty"`
	// Burst is how many may come at once, of a token bucket; 0 means Requests.
	Burst uint32 `json:"burst,omitempty" yaml:"burst,omitempty"`
	// Algorithm is token_bucket ("" means it) or sliding_window.
	Algorithm LimitAlgorithm `json:"algorithm,omitempty" yaml:"algorithm,omitempty"`
	// Scope is cluster ("" means it) or gateway.
	Scope LimitScope `json:"scope,omitempty" yaml:"scope,omitempty"`
}

// Concurrency bounds the requests in progress at the own cluster's endpoints of a
// service. The senders (peers' clusters, and the own one) share it fairly.
type Concurrency struct {
	// Adaptive finds the limit by the latency of answers, between Floor and Max.
	// Without it the limit is Max.
	Adaptive bool `json:"adaptive,omitempty" yaml:"adaptive,omitempty"`
	// Floor is the least that an adaptive limit comes to; 0 means 3.
	Floor uint32 `json:"floor,omitempty" yaml:"floor,omitempty"`
	// Max is the most; 0 means 1000.
	Max uint32 `json:"max,omitempty" yaml:"max,omitempty"`
}

// Queue is where requests wait for a place.
type Queue struct {
	// Length is how many may wait; 0 means 128, and NoWait that none may.
	Length uint32 `json:"length,omitempty" yaml:"length,omitempty"`
	NoWait bool   `json:"no_wait,omitempty" yaml:"no_wait,omitempty"`
	// TargetMS is how long requests may wait, in milliseconds, while more come than can
	// be served; 0 means 20.
	TargetMS uint32 `json:"target_ms,omitempty" yaml:"target_ms,omitempty"`
	// IntervalMS is how long any request may wait, and how long waits must have been
	// above the target until it holds; 0 means 100, or five times the target.
	IntervalMS uint32 `json:"interval_ms,omitempty" yaml:"interval_ms,omitempty"`
}

// Breaker bounds what one gateway has under way to a service in one cluster; 0 is no
// bound. Consecutive failures are ejected whether there is one or not.
type Breaker struct {
	MaxConnections uint32 `json:"max_connections,omitempty" yaml:"max_connections,omitempty"`
	MaxRequests    uint32 `json:"max_requests,omitempty" yaml:"max_requests,omitempty"`
	// MaxPending bounds connections and requests that have had no answer yet.
	MaxPending uint32 `json:"max_pending,omitempty" yaml:"max_pending,omitempty"`
}

// The defaults of limits.
const (
	DefaultLimitIntervalMS uint32 = 1000
	DefaultFloor           uint32 = 3
	DefaultMaxConcurrency  uint32 = 1000
	DefaultQueueLength     uint32 = 128
	DefaultQueueTargetMS   uint32 = 20
	DefaultQueueIntervalMS uint32 = 100
)

// Filled is r with every unset field at its default.
func (r RateLimit) Filled() RateLimit {
	if r.IntervalMS == 0 {
		r.IntervalMS = DefaultLimitIntervalMS
	}
	if r.Burst == 0 {
		r.Burst = max(1, r.Requests)
	}
	if r.Algorithm == "" {
		r.Algorithm = TokenBucket
	}
	if r.Scope == "" {
		r.Scope = PerCluster
	}
	return r
}

// Interval is what Requests are counted in.
func (r RateLimit) Interval() time.Duration {
	return time.Duration(r.Filled().IntervalMS) * time.Millisecond
}

// Filled is c with every unset field at its default.
func (c Concurrency) Filled() Concurrency {
	if c.Max == 0 {
		c.Max = DefaultMaxConcurrency
	}
	if c.Floor == 0 {
		c.Floor = min(DefaultFloor, c.Max)
	}
	return c
}

// Filled is q with every unset field at its default.
func (q Queue) Filled() Queue {
	if q.Length == 0 && !q.NoWait {
		q.Length = DefaultQueueLength
	}
	if q.TargetMS == 0 {
		q.TargetMS = DefaultQueueTargetMS
	}
	if q.IntervalMS == 0 {
		q.IntervalMS = max(DefaultQueueIntervalMS, 5*q.TargetMS)
	}
	return q
}
