package retry

import (
	"context"
	"time"
)

// The delays before a retry: short, since the next choice is another place that
// has done nothing wrong; not zero, so that the callers of a service that died
// do not arrive at its neighbour in one instant. The figures are Envoy's.
const (
	baseDelay = 25 * time.Millisecond
	maxDelay  = 250 * time.Millisecond
)

// Delay is the wait before the retry-th retry (from 1), with full jitter: evenly
// drawn from zero to base x 2^(retry-1), at most maxDelay.
func Delay(retry int, random uint64) time.Duration {
	limit := maxDelay
	if shift := retry - 1; shift < 4 { // 25 ms << 4 is above maxDelay
		limit = min(maxDelay, baseDelay<<max(0, shift))
	}
	return time.Duration(random % uint64(limit))
}

// Wait sleeps for d or until ctx ends, whichever is first. It refuses at once to
// sleep past ctx's deadline: the answer would come too late.
func Wait(ctx context.Context, d time.Duration) error {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= d {
		return context.DeadlineExceeded
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
