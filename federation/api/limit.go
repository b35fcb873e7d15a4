package api

import (
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// maxPrincipals bounds the buckets. A bucket that has filled up again says
	// nothing and is dropped; those above the bound share one.
	maxPrincipals = 1024
	// localFactor is how much more principals of the host itself may ask: a command
	// that applies a thousand rules is one of them.
	localFactor = 10
)

// limiter is a token bucket for each principal.
type limiter struct {
	config RateConfig
	now    func() time.Time

	mu      sync.Mutex
	buckets map[string]*rate.Limiter
	shared  *rate.Limiter // of those for whom there is no room
}

func newLimiter(c RateConfig, now func() time.Time) *limiter {
	return &limiter{
		config: c, now: now, buckets: make(map[string]*rate.Limiter),
		shared: rate.NewLimiter(rate.Limit(c.PerSecond), c.Burst),
	}
}

// take takes one request out of the principal's bucket. Where it is empty it
// returns how long it takes until there is one again.
func (l *limiter) take(p Principal) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	b := l.bucket(p, now)
	if b.AllowN(now, 1) {
		return 0, true
	}
	missing := 1 - b.TokensAt(now)
	return time.Duration(math.Ceil(missing / float64(b.Limit()) * float64(time.Second))), false
}

// bucket finds or makes the principal's; l.mu is held.
func (l *limiter) bucket(p Principal, now time.Time) *rate.Limiter {
	if b := l.buckets[p.Name]; b != nil {
		return b
	}
	if len(l.buckets) >= maxPrincipals {
		for name, b := range l.buckets {
			if b.TokensAt(now) >= float64(b.Burst()) {
				delete(l.buckets, name)
			}
		}
	}
	if len(l.buckets) >= maxPrincipals {
		return l.shared
	}
	per, burst := l.config.PerSecond, l.config.Burst
	if p.Way == Socket || p.Way == Loopback && p.Name == tokenName {
		per, burst = per*localFactor, burst*localFactor
	}
	b := rate.NewLimiter(rate.Limit(per), burst)
	l.buckets[p.Name] = b
	return b
}

// tracked counts the buckets.
func (l *limiter) tracked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.buckets)
}
