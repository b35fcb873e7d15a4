package gcp

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/api/googleapi"
)

const (
	// attempts is how many timeouts one call gets with its retries.
	attempts = 2
	// maxRest bounds how long a project rests when its quota is exceeded.
	maxRest = 5 * time.Minute
	// workers bounds the calls of one project at once.
	workers = 8
)

// project is one project with its pace and what is known of it.
type project struct {
	id      string
	timeout time.Duration
	// rest is how long it rests at first when its quota is exceeded.
	rest    time.Duration
	metrics *metrics
	limiter *rate.Limiter
	sdk     *sdk
	edge    *edge
	slots   chan struct{} // held during a call

	mu     sync.Mutex
	until  time.Time
	streak int

	known known
}

// call does one call, retries included, in the project's pace and with a
// deadline.
func (p *project) call(ctx context.Context, do func(ctx context.Context) error) error {
	if p.resting(time.Now()) {
		return errResting
	}
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := p.limiter.Wait(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, attempts*p.timeout)
	defer cancel()
	ctx, end := p.edge.enter(ctx)
	defer end()
	err := do(ctx)
	p.heed(time.Now(), err, rand.Float64())
	return err
}

func (p *project) resting(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return now.Before(p.until)
}

// heed lets the project rest when a quota is exceeded: for as long as the answer
// says, else longer each time. random is uniform in [0, 1).
func (p *project) heed(now time.Time, err error, random float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.streak = 0
		return
	}
	if classify(err) != throttled || now.Before(p.until) {
		return // the calls that were under way count once
	}
	p.metrics.throttled.WithLabelValues(p.id).Inc()
	d := min(p.rest<<min(p.streak, 10), maxRest)
	p.streak++
	if e, ok := errors.AsType[*googleapi.Error](err); ok {
		if s, err := strconv.Atoi(e.Header.Get("Retry-After")); err == nil && s > 0 {
			d = min(time.Duration(s)*time.Second, maxRest)
		}
	}
	p.until = now.Add(d + time.Duration(random*float64(d)/4)) // never sooner than asked for
}
