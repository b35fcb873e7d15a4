package route

import (
	"cmp"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// The ranks of distance from the deciding gateway.
const (
	rankZone = iota
	rankRegion
	rankCloud
	rankElsewhere
)

// rankOf compares two localities from the widest part down. A part that is not
// known is equal to nothing.
func rankOf(a, b catalog.Locality) int {
	switch {
	case a.Cloud == "" || a.Cloud != b.Cloud:
		return rankElsewhere
	case a.Region == "" || a.Region != b.Region:
		return rankCloud
	case a.Zone == "" || a.Zone != b.Zone:
		return rankRegion
	default:
		return rankZone
	}
}

// Beyond the region, names say little of distance: two regions of one cloud may
// be 10 ms or 250 ms apart. Clusters of the same rank are therefore split into
// bands by the measured distance of their links; one that is farther than the
// nearest of a band by more than both bounds starts the next band.
const (
	// BandFloor keeps small differences, which no caller notices, together.
	BandFloor = 10 * time.Millisecond
	// BandShare is the relative difference that starts a band.
	BandShare = 0.25
)

// bandsOf numbers the bands of distances: 0 is the nearest. What was not
// measured (0) is farther than everything that was.
func bandsOf(distances []time.Duration) []int {
	order := make([]int, len(distances))
	for i := range order {
		order[i] = i
	}
	far := func(d time.Duration) int {
		if d <= 0 {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(far(distances[a]), far(distances[b])), cmp.Compare(distances[a], distances[b]))
	})
	bands := make([]int, len(distances))
	band, anchor := -1, time.Duration(-1)
	for _, i := range order {
		d := distances[i]
		width := max(BandFloor, time.Duration(BandShare*float64(anchor)))
		switch {
		case band < 0, d > 0 && d-anchor > width:
			band, anchor = band+1, d
		case d <= 0 && anchor > 0:
			band, anchor = band+1, 0
		}
		bands[i] = band
	}
	return bands
}

// The dead band of Distance: changes smaller than both are noise.
const (
	distanceFloor = 5 * time.Millisecond
	distanceShare = 0.125
	// distanceSettle is how long a change must last to be believed: a burst of
	// queueing is not a longer way.
	distanceSettle = 3 * time.Second
)

// Distance holds a link's RTT steady, so that the bands made of it do not move
// with noise: it changes only after samples outside of a dead band (the larger
// of 5 ms and 12.5 %, half of what makes a band) for 3 s without a break. Feed
// it the link's minimum over the last seconds rather than single samples. The
// zero value is ready; it is pure and holds no clock.
type Distance struct {
	held  time.Duration
	since time.Time // of the first sample outside of the dead band, in a row
}

// Observe takes a sample (0 and below are ignored) and returns the distance.
func (d *Distance) Observe(rtt time.Duration, now time.Time) time.Duration {
	if rtt <= 0 {
		return d.held
	}
	if d.held == 0 {
		d.held = rtt
		return d.held
	}
	if diff := (rtt - d.held).Abs(); diff <= max(distanceFloor, time.Duration(distanceShare*float64(d.held))) {
		d.since = time.Time{}
		return d.held
	}
	switch {
	case d.since.IsZero():
		d.since = now
	case now.Sub(d.since) >= distanceSettle:
		d.held, d.since = rtt, time.Time{}
	}
	return d.held
}

// Held is the distance, 0 before the first sample.
func (d *Distance) Held() time.Duration { return d.held }
