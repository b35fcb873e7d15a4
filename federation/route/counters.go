package route

import (
	"math"
	"sync/atomic"
	"time"
)

// Decay is the time constant of the latency estimate (Linkerd's default): after 10 s without calls an estimate has fallen to
// 37 %, so that a candidate that was slow once is tried again.
const Decay = 10 * time.Second

// FailureLatency is what a failed call counts as, if it took less: without it
// the fastest way to fail would be the fastest way to attract calls. The value
// is that of Linkerd's load biaser.
const FailureLatency = 5 * time.Second

// Counters are the live figures of one target or one local endpoint. Every
// method is safe for concurrent use, takes no lock and allocates nothing.
//
// The latency estimate is a peak EWMA as in tower's load::PeakEwma
// (github.com/tower-rs/tower, tower/src/load/peak_ewma.rs): a sample above the
// estimate replaces it at once, one below it moves it by 1-exp(-dt/Decay), and
// between samples it decays towards 0.
type Counters struct {
	inFlight atomic.Int64
	requests atomic.Uint64
	failures atomic.Uint64
	cancels  atomic.Uint64
	ewma     peak
	// bias is what calls took beyond what the terms of their delay said, and penalty a
	// peak EWMA of failures alone: both in nanoseconds, for the delay model.
	bias    average
	penalty peak
	// busy is when, in Unix nanoseconds, the target has done what this gateway has begun,
	// by what was predicted of it.
	busy atomic.Int64
	// probed is the Unix time in nanoseconds of the last probation request.
	probed atomic.Int64
	// crowd also counts the calls in flight, with those of others; nil where nobody asks.
	crowd atomic.Pointer[atomic.Int64]
}

// count moves the number of calls in flight.
func (c *Counters) count(by int64) {
	c.inFlight.Add(by)
	if crowd := c.crowd.Load(); crowd != nil {
		crowd.Add(by)
	}
}

// stampShift makes a stamp unit 2^20 ns, about 1 ms: 32 bits then last 52 days,
// and a step is 0.01 % of Decay.
const stampShift = 20

// Begin counts a call that starts at a Unix time in nanoseconds (which no figure
// uses so far; it makes pairs with End). Each Begin is followed by one End or
// Cancel.
func (c *Counters) Begin(_ int64) {
	c.count(1)
	c.requests.Add(1)
}

// End counts the end of a call that took d (to the first answer byte, or to the
// connection's confirmation). ok is false only for a failure of the service
// itself; what the link or the caller did must not be charged here: end those
// with Cancel.
func (c *Counters) End(nowNanos int64, d time.Duration, ok bool) {
	c.count(-1)
	if !ok {
		c.failures.Add(1)
		d = max(d, FailureLatency)
		c.penalty.sample(nowNanos, d)
	}
	c.ewma.sample(nowNanos, d)
}

// MaxRefusal bounds how long a service is believed that says when to come again.
// The value is that of Linkerd's load biaser.
const MaxRefusal = 300 * time.Second

// Refuse ends a call that was answered by a refusal (429, RESOURCE_EXHAUSTED): no
// failure, but as expensive as one, or as long as after, when to come again. The
// fastest to refuse would attract the most calls otherwise.
func (c *Counters) Refuse(nowNanos int64, d, after time.Duration) {
	c.count(-1)
	d = max(d, FailureLatency, min(after, MaxRefusal))
	c.penalty.sample(nowNanos, d)
	c.ewma.sample(nowNanos, d)
}

// Cancel ends a call whose outcome says nothing of the service: a dead link, a
// denial, a caller that went away.
func (c *Counters) Cancel() {
	c.count(-1)
	c.cancels.Add(1)
}

// Judged is how many calls ended in a way that speaks of the service, so far, and how
// many of those it failed.
func (c *Counters) Judged() (calls, failures uint64) {
	failures = c.failures.Load()
	ended := int64(c.requests.Load()) - c.inFlight.Load() - int64(c.cancels.Load())
	return max(uint64(max(ended, 0)), failures), failures
}

// InFlight is how many calls began and did not end.
func (c *Counters) InFlight() int64 { return c.inFlight.Load() }

// EWMA is the latency estimate at nowNanos; 0 before the first sample.
func (c *Counters) EWMA(nowNanos int64) time.Duration {
	e, _ := c.ewma.estimate(nowNanos)
	return time.Duration(e)
}

// Requests is how many calls began.
func (c *Counters) Requests() uint64 { return c.requests.Load() }

// Failures is how many calls ended in a failure of the service.
func (c *Counters) Failures() uint64 { return c.failures.Load() }

// peak is a peak EWMA in one word: the estimate (float32 bits of nanoseconds, high
// half) and when it was made (nanoseconds >> stampShift, low half), so that both
// change together without a lock. 0 means that nothing was measured.
type peak struct{ word atomic.Uint64 }

// estimate is the decayed estimate in nanoseconds, and whether there is any.
func (c *peak) estimate(nowNanos int64) (float32, bool) {
	w := c.word.Load()
	if w == 0 {
		return 0, false
	}
	return decayed(w, stamp(nowNanos)), true
}

func (c *peak) sample(nowNanos int64, d time.Duration) {
	s, now := float32(max(d, 1)), stamp(nowNanos)
	for {
		w := c.word.Load()
		next := s
		if w != 0 {
			last := math.Float32frombits(uint32(w >> 32))
			k := decayFactor(uint32(w), now)
			if old := last * k; s < old {
				next = old + s*(1-k)
			}
		}
		if c.word.CompareAndSwap(w, uint64(math.Float32bits(next))<<32|uint64(now)) {
			return
		}
	}
}

func stamp(nowNanos int64) uint32 { return uint32(uint64(nowNanos) >> stampShift) }

func decayed(w uint64, now uint32) float32 {
	return math.Float32frombits(uint32(w>>32)) * decayFactor(uint32(w), now)
}

// decayFactor is exp(-dt/Decay). A clock that went back counts as no time.
func decayFactor(then, now uint32) float32 {
	dt := int32(now - then)
	if dt <= 0 {
		return 1
	}
	return float32(fade(uint32(dt)))
}

// probeLease is how long a probation request may stay without an outcome before
// another one is let through: it may have been given up before it began.
const probeLease = 10 * time.Second

// mostSurprise is how far, in parts of what was expected, one call counts that took
// longer: a call may be a hundred times the work of others, which says nothing of the
// place that it went to.
const mostSurprise = 1

// Correct takes how long a call took to its first byte that was predicted by terms:
// what they did not say corrects the predictions to come.
func (c *Counters) Correct(nowNanos int64, p *Prediction, first time.Duration) {
	if p.Modelled {
		expected := p.First - p.Penalty
		c.bias.sample(nowNanos, float64(p.Correction+min(first-expected, mostSurprise*max(expected, p.RTT))))
	}
}

// mayProbe reports whether a probation that began at since (Unix nanoseconds)
// has its one request still to give.
func (c *Counters) mayProbe(since, nowNanos int64) bool {
	last := c.probed.Load()
	return nowNanos >= since && (last < since || nowNanos-last >= int64(probeLease))
}

// takeProbe takes that request; of several takers one succeeds.
func (c *Counters) takeProbe(since, nowNanos int64) bool {
	last := c.probed.Load()
	if nowNanos < since || (last >= since && nowNanos-last < int64(probeLease)) {
		return false
	}
	return c.probed.CompareAndSwap(last, nowNanos)
}
