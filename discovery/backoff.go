package discovery

import "time"

// Delays between the starts of a source that ended: exponential with full
// jitter (a random share of the ceiling), so that many processes that lost the
// same registry do not come back in step. The floor keeps a source that ends at
// once from being started in a hot loop.
const (
	restartFloor = 200 * time.Millisecond
	restartBase  = time.Second
	restartMax   = time.Minute
)

// restartDelay is how long to wait before start number attempt (0 is the first
// one again); random is uniform in [0, 1).
func restartDelay(attempt int, random float64) time.Duration {
	ceiling := restartMax
	if attempt < 6 { // 1 s << 6 is above the maximum
		ceiling = min(restartMax, restartBase<<attempt)
	}
	return restartFloor + time.Duration(random*float64(ceiling-restartFloor))
}
