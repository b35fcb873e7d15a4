package bundleendpoint

import "time"

// When to look again. A peer's hint is a wish: one that asks for every second or
// for once in a year gets neither.
const (
	minRefresh = 30 * time.Second
	maxRefresh = time.Hour
	// defaultRefresh is what the SPIFFE Trust Domain and Bundle specification
	// (section 4.1.2) suggests where a document has no hint.
	defaultRefresh = 5 * time.Minute
	// refreshJitter spreads refreshes by this share to both sides, so that the
	// federations of many clusters do not ask in step.
	refreshJitter = 0.1
	// After a failure: full jitter below backoffBase doubled with each, from
	// backoffFloor on, and never later than the refresh that was due.
	backoffFloor = 500 * time.Millisecond
	backoffBase  = time.Second
	backoffMax   = 5 * time.Minute
)

// refreshAfter is the pause after a good fetch; random is uniform in [0, 1).
func refreshAfter(hint time.Duration, random float64) time.Duration {
	if hint <= 0 {
		hint = defaultRefresh
	}
	hint = min(max(hint, minRefresh), maxRefresh)
	return hint + time.Duration(float64(hint)*refreshJitter*(2*random-1))
}

// retryAfter is the pause after so many failures in a row, 1 or more.
func retryAfter(failures int, hint time.Duration, random float64) time.Duration {
	ceiling := backoffMax
	if failures < 16 { // a second doubled 15 times is far above the maximum
		ceiling = min(backoffMax, backoffBase<<failures)
	}
	if hint > 0 {
		ceiling = min(ceiling, max(hint, minRefresh))
	}
	return backoffFloor + time.Duration(random*float64(ceiling-backoffFloor))
}
