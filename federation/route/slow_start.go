package route

import (
	"math"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// slowStart gives items that are new, or back, their part step by step, as Envoy does:
// weight x max(least, (max(t, 1 s)/window)^(1/aggression)). Parts are worked out when a
// call asks, so that no plan is compiled for the passing of time, and are relative to
// that of the eldest: where all are new nobody is held back.
type slowStart struct {
	window  float64 // nanoseconds
	inverse float64 // 1/aggression
	least   float64
	eldest  int64 // since when, of the one that is longest in service; 0: for good
}

// slowStartOf returns nil where nobody is new.
func slowStartOf(p *policy.SlowStart, items []item, now time.Time) *slowStart {
	if p == nil || len(items) < 2 {
		return nil
	}
	s := &slowStart{
		window:  float64(p.WindowSeconds) * float64(time.Second),
		inverse: 1 / p.Aggression, least: float64(p.MinPercent) / 100,
	}
	s.eldest = items[0].since
	fresh := false
	for i := range items {
		fresh = fresh || items[i].since != 0 && float64(now.UnixNano()-items[i].since) < s.window
		s.eldest = min(s.eldest, items[i].since)
	}
	if !fresh {
		return nil
	}
	return s
}

func (s *slowStart) factor(since, now int64) float64 {
	if since == 0 {
		return 1
	}
	t := max(float64(now-since), float64(time.Second)) / s.window
	if t >= 1 {
		return 1
	}
	if s.inverse != 1 {
		t = math.Pow(t, s.inverse)
	}
	return max(t, s.least)
}

// part of item i at now, in units of 1/whole.
func (w *wheel) part(i int, now int64) uint64 {
	if w.slow == nil || w.items[i].since == 0 {
		return whole
	}
	p := w.slow.factor(w.items[i].since, now) / w.slow.factor(w.slow.eldest, now)
	return uint64(min(p, 1) * whole)
}

// cold reports whether item i is passed over this time.
func (w *wheel) cold(i int, rec *Record, d *draws) bool {
	if w.slow == nil || w.items[i].since == 0 {
		return false
	}
	return scale(d.next(), whole) >= w.part(i, rec.request.NowNanos)
}
