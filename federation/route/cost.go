package route

import "time"

// leastEstimate keeps calls in flight telling between candidates whose latency
// estimate has decayed to nothing.
const leastEstimate = float64(100 * time.Microsecond)

// leastLatency is what a call is taken to last at least where failures are counted as
// calls in flight.
const leastLatency = float32(time.Millisecond)

// costs are what a call of a size costs at two items, which are compared by it.
func (w *wheel) costs(a, b *item, ra, rb *reading, s *sizing) (costA, costB float64) {
	if w.by == byLeastRequest {
		return queueing(a, b, ra, rb)
	}
	return completion(a, b, ra, rb, s)
}

// queueing counts the calls in flight per lane. Failures cost time here too: one that
// is over in a moment counts as the calls that would have fit into its penalty, or who
// fails fast would always be the one with the fewest.
func queueing(a, b *item, ra, rb *reading) (costA, costB float64) {
	latency := leastLatency
	if ra.known && rb.known {
		latency = max(latency, min(ra.ewma, rb.ewma))
	}
	return queue(a, ra, latency), queue(b, rb, latency)
}

func queue(x *item, r *reading, latency float32) float64 {
	return 1 + (float64(r.inFlight)+float64(r.penalty/latency))/float64(x.terms.lanes)
}
