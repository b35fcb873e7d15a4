package liveness

import "time"

// Back-off of dialing: full jitter below base*2^n, at most cap; forgotten after a
// link was up for stable. The cap is what a gateway that can be reached again may have
// to wait for, beside what both sides' dialing makes shorter; an attempt is a few
// packets.
const (
	backoffBase   = 200 * time.Millisecond
	backoffCap    = 5 * time.Second
	backoffStable = 60 * time.Second
)

// Backoff spaces attempts: full jitter below a bound that doubles. It is pure,
// randomness comes from outside.
type Backoff struct{ attempt int }

// Next returns the wait before the next attempt; random is from [0, 1).
func (b *Backoff) Next(random float64) time.Duration {
	bound := backoffCap
	// Five doublings are past the cap; shifting on would overflow.
	if b.attempt < 5 {
		bound = min(backoffCap, backoffBase<<b.attempt)
		b.attempt++
	}
	return time.Duration(random * float64(bound))
}

// Ended is told how long the link that an attempt made was up.
func (b *Backoff) Ended(up time.Duration) {
	if up >= backoffStable {
		b.attempt = 0
	}
}
