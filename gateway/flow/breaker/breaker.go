package breaker

import "sync/atomic"

// Bounds are the most that may be under way; 0 is no bound.
type Bounds struct {
	Connections, Requests, Pending int64
}

// Kind is what is counted.
type Kind uint8

// The kinds.
const (
	// None: no bound is reached.
	None Kind = iota
	// Connections are open connections of callers whose requests are not seen.
	Connections
	// Requests are HTTP requests that have not ended.
	Requests
	// Pending are connections and requests that the service has not answered yet.
	Pending
)

var kindNames = [...]string{None: "none", Connections: "connections", Requests: "requests", Pending: "pending"}

// String is the word of logs and metrics.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// Kinds are those that have a bound.
func Kinds() []Kind { return []Kind{Connections, Requests, Pending} }

// Breaker counts what is under way. The zero value counts none.
type Breaker struct {
	counts [Pending + 1]atomic.Int64
}

// Enter counts one more of kind, pending at first. Where that would be above a bound,
// it counts nothing and says which.
func (b *Breaker) Enter(kind Kind, most Bounds) (over Kind) {
	limit := most.Connections
	if kind == Requests {
		limit = most.Requests
	}
	if n := b.counts[kind].Add(1); limit > 0 && n > limit {
		b.counts[kind].Add(-1)
		return kind
	}
	if n := b.counts[Pending].Add(1); most.Pending > 0 && n > most.Pending {
		b.counts[Pending].Add(-1)
		b.counts[kind].Add(-1)
		return Pending
	}
	return None
}

// Answered counts one that entered as pending no longer; once for each.
func (b *Breaker) Answered() { b.counts[Pending].Add(-1) }

// Leave counts one that entered out; once for each, after Answered.
func (b *Breaker) Leave(kind Kind) { b.counts[kind].Add(-1) }

// Count is how many of kind are under way.
func (b *Breaker) Count(kind Kind) int64 { return b.counts[kind].Load() }
