package route

import "time"

// leastEstimate keeps calls in flight telling between candidates whose latency
// estimate has decayed to nothing.
const leastEstimate = float64(100 * time.Microsecond)

// costFunc says what a call of a size costs at two items, which are compared by it.
type costFunc func(a, b *item, ra, rb reading, s sizing) (costA, costB float64)

func queue(x *item, r reading) float64 { return 1 + float64(r.inFlight)/float64(x.terms.lanes) }

// queueing counts the calls in flight per lane.
func queueing(a, b *item, ra, rb reading, _ sizing) (costA, costB float64) {
	return queue(a, ra), queue(b, rb)
}
