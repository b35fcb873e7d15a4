package tunnel

import "time"

// backoff spaces attempts: full jitter below a bound that doubles. It is pure,
// randomness comes from outside.
type backoff struct{ attempt int }

// next returns the wait before the next attempt; random is from [0, 1).
func (b *backoff) next(random float64) time.Duration {
	bound := backoffCap
	// Ten doublings are past the cap; shifting on would overflow.
	if b.attempt < 10 {
		bound = min(backoffCap, backoffBase<<b.attempt)
		b.attempt++
	}
	return time.Duration(random * float64(bound))
}

// ended is told how long the link that an attempt made was up.
func (b *backoff) ended(up time.Duration) {
	if up >= backoffStable {
		b.attempt = 0
	}
}
