package dnsway

import (
	"net/netip"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/flow/bucket"
)

// maxSources bounds the addresses whose rates are kept apart: some 3 MB.
const maxSources = 1 << 15

// limiter holds a rate for each source: an IPv4 address, or a /64 of IPv6, of which
// one host has as many addresses as it likes.
type limiter struct {
	limit bucket.Limit

	mu      sync.Mutex
	sources map[netip.Addr]*bucket.Bucket
	rest    bucket.Bucket // of sources beyond maxSources, together
	swept   int64
	over    uint64 // queries over the rate
}

func newLimiter(perSecond float64) *limiter {
	return &limiter{limit: bucket.NewLimit(perSecond, perSecond), sources: map[netip.Addr]*bucket.Bucket{}}
}

// take takes one query of a source. turn counts those that were over the rate.
func (l *limiter) take(from netip.Addr, now time.Time) (turn uint64, ok bool) {
	from = from.Unmap().WithZone("")
	if from.Is6() {
		p, _ := from.Prefix(64) // fails on no address
		from = p.Addr()
	}
	at := now.UnixNano()
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.sources[from]
	if b == nil {
		b = l.add(from, at)
	}
	if _, ok := b.Take(at, l.limit); ok {
		return 0, true
	}
	l.over++
	return l.over, false
}

func (l *limiter) add(from netip.Addr, now int64) *bucket.Bucket {
	if len(l.sources) >= maxSources && now-l.swept >= int64(time.Second) {
		l.swept = now
		for a, b := range l.sources {
			if b.Full(now) {
				delete(l.sources, a)
			}
		}
	}
	if len(l.sources) >= maxSources {
		return &l.rest
	}
	b := new(bucket.Bucket)
	l.sources[from] = b
	return b
}
