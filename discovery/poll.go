package discovery

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Fetch reads everything once: all of it, or an error.
type Fetch func(ctx context.Context) (*catalog.Snapshot, error)

const (
	// minPoll bounds how often a poller asks, whatever it is told.
	minPoll = 10 * time.Millisecond
	// minFetchTimeout is the least time that one fetch gets; a slow one gets the
	// interval. A fetch without a deadline would freeze discovery silently.
	minFetchTimeout = 30 * time.Second
	// maxPollSlowdown bounds how much less often a failing backend is asked
	// (interval << 3): throttling needs room, recovery needs to be seen.
	maxPollSlowdown = 3
)

// Poller is a Source that fetches in intervals.
type Poller struct {
	interval time.Duration
	jitter   float64
	fetch    Fetch
	kick     chan struct{}

	mu   sync.Mutex
	last time.Time
	err  error
}

// Poll turns fetch into a Source: it fetches at once, then every interval, give
// or take the share jitter of it (0 to 1), and publishes what it got. A failed
// fetch publishes nothing, and the next waits longer. It implements Reporter
// and Rereader.
func Poll(interval time.Duration, jitter float64, fetch Fetch) *Poller {
	return &Poller{
		interval: max(interval, minPoll), jitter: min(max(jitter, 0), 1), fetch: fetch,
		kick: make(chan struct{}, 1),
	}
}

// Run implements Source; it always returns nil, after ctx has ended.
func (p *Poller) Run(ctx context.Context, publish Publish) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for failures := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-p.kick:
		}
		s, err := p.fetchOnce(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			failures++
		} else {
			failures = 0
		}
		p.report(err)
		if err == nil {
			publish(s)
		}
		timer.Reset(p.wait(failures, rand.Float64()))
	}
}

func (p *Poller) fetchOnce(ctx context.Context) (*catalog.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, max(p.interval, minFetchTimeout))
	defer cancel()
	return p.fetch(ctx)
}

// wait is the time to the next fetch; random is uniform in [0, 1).
func (p *Poller) wait(failures int, random float64) time.Duration {
	d := p.interval << min(failures, maxPollSlowdown)
	return max(minPoll, time.Duration(float64(d)*(1+p.jitter*(2*random-1))))
}

func (p *Poller) report(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err = err; err == nil {
		p.last = time.Now()
	}
}

// LastRead implements Reporter.
func (p *Poller) LastRead() (time.Time, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last, p.err
}

// Reread implements Rereader: the next fetch starts at once.
func (p *Poller) Reread() {
	select {
	case p.kick <- struct{}{}:
	default: // one is already due
	}
}
