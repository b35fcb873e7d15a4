package bucket

import (
	"math"
	"time"
)

const (
	// MaxWait is the longest wait that is said: what lies beyond is as good as never.
	MaxWait = 24 * time.Hour
	// maxRate keeps an interval long enough, in whole nanoseconds, to be exact to a
	// tenth of a percent.
	maxRate = 1e6
)

// Limit is a rate and how many calls may come at once. The zero value lets nothing
// through.
type Limit struct {
	interval  int64 // nanoseconds between two calls; 0 of a limit that lets nothing through
	tolerance int64 // how far ahead of its time a call may come
}

// NewLimit is perSecond calls a second, and up to burst of them at once. burst below 1
// counts as 1, since less would never let a call through; a rate that is not above 0
// lets nothing through, one above a million a second counts as a million.
func NewLimit(perSecond, burst float64) Limit {
	if !(perSecond > 0) {
		return Limit{}
	}
	interval := math.Ceil(float64(time.Second) / min(perSecond, maxRate))
	if interval > float64(MaxWait) {
		interval = float64(MaxWait)
	}
	tolerance := (max(burst, 1) - 1) * interval
	return Limit{interval: int64(interval), tolerance: int64(min(tolerance, float64(math.MaxInt64/4)))}
}

// Bucket is the state of one limit: the theoretical time of arrival of the next call.
// The zero value is a full bucket. It is for one goroutine at a time.
type Bucket struct{ tat int64 }

// Take takes one call's worth at now (Unix nanoseconds). Where there is none, ok is
// false, nothing is taken, and wait is when there is one again.
func (b *Bucket) Take(now int64, l Limit) (wait time.Duration, ok bool) {
	if l.interval == 0 {
		return MaxWait, false
	}
	tat := max(b.tat, now)
	if early := tat - now - l.tolerance; early > 0 {
		return min(time.Duration(early), MaxWait), false
	}
	b.tat = tat + l.interval
	return 0, true
}

// Give puts back what the last Take took, for a call that went no further.
func (b *Bucket) Give(l Limit) { b.tat -= l.interval }

// Full reports whether the bucket holds all that it can: it then says no more than a
// new one, and may be forgotten.
func (b *Bucket) Full(now int64) bool { return b.tat <= now }
