package identity

import (
	"math/rand/v2"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// Delays between attempts at the Workload API: exponential with full jitter, so
// that the processes of a host do not return in step after the agent's restart
// (go-spiffe's own is linear without jitter). The floor keeps an agent that
// answers garbage and hangs up from being asked in a hot loop.
const (
	backoffFloor = 100 * time.Millisecond
	backoffBase  = 200 * time.Millisecond
	backoffMax   = 10 * time.Second
)

// fullJitter implements go-spiffe's BackoffStrategy and Backoff.
type fullJitter struct {
	attempt int
	random  func(n int64) int64 // uniform in [0, n)
}

func newBackoff() *fullJitter { return &fullJitter{random: rand.Int64N} }

// NewBackoff implements workloadapi.BackoffStrategy.
func (*fullJitter) NewBackoff() workloadapi.Backoff { return newBackoff() }

// Next returns how long to wait before the next attempt.
func (b *fullJitter) Next() time.Duration {
	ceiling := backoffMax
	if b.attempt < 10 { // 200 ms << 10 is far above the maximum already
		ceiling = min(backoffMax, backoffBase<<b.attempt)
		b.attempt++
	}
	return backoffFloor + time.Duration(b.random(int64(ceiling)))
}

// Reset starts from the shortest delay again.
func (b *fullJitter) Reset() { b.attempt = 0 }
