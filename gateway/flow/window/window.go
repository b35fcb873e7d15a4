package window

import (
	"math"
	"time"
)

// Limit is at most Calls in any Width. Calls may be a fraction of a share; below 1
// nothing passes.
type Limit struct {
	Calls float64
	Width time.Duration
}

// Window is the state of one limit. The zero value has seen no call. It is for one
// goroutine at a time.
type Window struct {
	number            int64 // Unix time divided by the width
	previous, current float64
}

// Take counts a call at now (Unix nanoseconds) if it is within the limit. Where it is
// not, nothing is counted, and wait is when one would be if none came meanwhile.
func (w *Window) Take(now int64, l Limit) (wait time.Duration, ok bool) {
	if l.Width <= 0 || l.Calls < 1 {
		return max(l.Width, 0), false
	}
	elapsed := w.slide(now, l.Width)
	if w.estimate(elapsed)+1 <= l.Calls+rounding {
		w.current++
		return 0, true
	}
	return w.wait(elapsed, l), false
}

// Give takes back what the last Take counted, for a call that went no further.
func (w *Window) Give() { w.current = max(0, w.current-1) }

// rounding keeps sums of fractions from refusing a call that is exactly within.
const rounding = 1e-9

// Estimate is how many calls the last width is taken to have had.
func (w *Window) Estimate(now int64, width time.Duration) float64 {
	return w.estimate(w.slide(now, width))
}

// Empty reports whether nothing is remembered any more: it then says no more than a new
// one, and may be forgotten.
func (w *Window) Empty(now int64, width time.Duration) bool {
	return w.current == 0 && w.previous == 0 || now/int64(width) > w.number+1
}

// slide moves to the window of now, and returns the part of it that has passed. A clock
// that goes back stays in the window that it was in.
func (w *Window) slide(now int64, width time.Duration) (elapsed float64) {
	n := now / int64(width)
	switch {
	case n == w.number+1:
		w.previous, w.current, w.number = w.current, 0, n
	case n > w.number:
		w.previous, w.current, w.number = 0, 0, n
	case n < w.number:
		return 0
	}
	return float64(now%int64(width)) / float64(width)
}

func (w *Window) estimate(elapsed float64) float64 { return w.previous*(1-elapsed) + w.current }

// wait solves estimate + 1 = limit for the time, in this window or in the next one.
func (w *Window) wait(elapsed float64, l Limit) time.Duration {
	width := float64(l.Width)
	var parts float64 // of a width
	if w.current+1 <= l.Calls {
		parts = 1 - (l.Calls-1-w.current)/w.previous - elapsed
	} else {
		parts = 1 - elapsed + 1 - (l.Calls-1)/w.current
	}
	return time.Duration(math.Ceil(max(parts, 0) * width))
}
