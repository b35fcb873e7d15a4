package route

import "sync/atomic"

// Backlog is what this gateway's own calls have on their way to one cluster, of all
// services: the links are theirs together. Every method is safe for concurrent use.
type Backlog struct {
	// free is when, in Unix nanoseconds, the links have sent what was begun, at the
	// bandwidth that was known then.
	free atomic.Int64
	// back is when the answers to it have been sent.
	back atomic.Int64
	// bytes are those of calls in progress: no more can be waiting.
	bytes atomic.Int64
}

// ahead is how long, in nanoseconds, what was begun will still occupy the links.
func (b *Backlog) ahead(nowNanos int64, perByte float32) float32 {
	if b == nil || perByte <= 0 {
		return 0
	}
	left := b.free.Load() - nowNanos
	if left <= 0 {
		return 0
	}
	return min(float32(left), float32(b.bytes.Load())*perByte)
}

// behind is how long, in nanoseconds, answers will still occupy the links back.
func (b *Backlog) behind(nowNanos int64) float32 {
	if b == nil {
		return 0
	}
	return float32(max(b.back.Load()-nowNanos, 0))
}

// later moves a time to where a further part ends that begins not before least, and
// returns it.
func later(at *atomic.Int64, least, part int64) {
	for {
		was := at.Load()
		if at.CompareAndSwap(was, max(was, least)+part) {
			return
		}
	}
}

// Begin counts a call that begins, on what it will occupy: the links for its bytes, and
// the service. Each is followed by one End.
func (c *Choice) Begin(nowNanos int64, p *Prediction, rec *Record) {
	c.Counters.Begin(nowNanos)
	if c.candidate == nil {
		return
	}
	if p.Processing > 0 {
		later(&c.Counters.busy, nowNanos+p.arrival(), int64(float64(p.Processing)/c.Lanes()))
	}
	b := c.candidate.backlog
	if b == nil {
		return
	}
	c.bytes = int64(rec.size(c.Sizes).out)
	b.bytes.Add(c.bytes)
	if p.Upload > 0 {
		later(&b.free, nowNanos, int64(p.Upload))
	}
	if p.answer > 0 {
		later(&b.back, nowNanos+int64(p.First), int64(p.answer))
	}
}

// End says that what Begin counted is over, but for the counters: those end with an
// outcome.
func (c *Choice) End() {
	if c.bytes != 0 {
		c.candidate.backlog.bytes.Add(-c.bytes)
		c.bytes = 0
	}
}
