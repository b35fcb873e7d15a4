package route

import "time"

// leastEstimate keeps calls in flight telling between candidates whose latency
// estimate has decayed to nothing.
const leastEstimate = float64(100 * time.Microsecond)

type costFunc func(a, b *item, ra, rb reading) (costA, costB float64)

// completion predicts how long a call would take: the peak EWMA, at least the
// link's RTT, times the calls that share a lane with it. One lane gives tower's
// est x (pending + 1). What has no estimate yet takes the other's, so that it
// neither scares calls off nor draws all of them.
func completion(a, b *item, ra, rb reading) (costA, costB float64) {
	ea, eb := estimate(a, ra, rb), estimate(b, rb, ra)
	return ea * queue(a, ra), eb * queue(b, rb)
}

func estimate(x *item, rx, ry reading) float64 {
	e := float64(rx.ewma)
	if !rx.known && ry.known {
		e = float64(ry.ewma)
	}
	return max(e, x.floor, leastEstimate)
}

func queue(x *item, r reading) float64 { return 1 + float64(r.inFlight)/x.lanes }

// queueing counts the calls in flight per lane.
func queueing(a, b *item, ra, rb reading) (costA, costB float64) {
	return queue(a, ra), queue(b, rb)
}
