package route

import "time"

// leastEstimate keeps calls in flight telling between candidates whose latency
// estimate has decayed to nothing.
const leastEstimate = float64(100 * time.Microsecond)

// costs are what a call of a size costs at two items, which are compared by it.
func (w *wheel) costs(a, b *item, ra, rb *reading, s *sizing) (costA, costB float64) {
	if w.by == byLeastRequest {
		return queue(a, ra), queue(b, rb)
	}
	return completion(a, b, ra, rb, s)
}

// queue counts the calls in flight per lane.
func queue(x *item, r *reading) float64 { return 1 + float64(r.inFlight)/float64(x.terms.lanes) }
