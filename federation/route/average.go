package route

import (
	"math"
	"sync/atomic"
)

// average is a running mean in one word, for values that many write at once: of the
// first samples the plain mean, then one that forgets, by time (Decay) where samples
// are rare and by their number where they are many. 0 is none.
type average struct{ word atomic.Uint64 }

const (
	// averageDepth is how many samples a mean is of where they come fast: few enough
	// to see a change within a second of traffic, enough to be calm.
	averageDepth = 64
	// The word is float32 bits, a stamp of stampBits and a count of the rest.
	countBits = 6
	stampBits = 32 - countBits
	stampMask = 1<<stampBits - 1
	countMask = 1<<countBits - 1
)

// read is the mean, whether there is one, and the nanoseconds since its last sample.
func (a *average) read(nowNanos int64) (mean float32, known bool, age float64) {
	w := a.word.Load()
	if w == 0 {
		return 0, false, 0
	}
	return math.Float32frombits(uint32(w >> 32)), true, averageAge(w, nowNanos)
}

// faded is the mean on its way to 0 since its last sample, as a peak EWMA is.
func (a *average) faded(nowNanos int64) float32 {
	w := a.word.Load()
	if w == 0 {
		return 0
	}
	return math.Float32frombits(uint32(w>>32)) * float32(fade(averageSteps(w, nowNanos)))
}

// averageSteps are the units of stamps since the last sample.
func averageSteps(w uint64, nowNanos int64) uint32 {
	then := uint32(w>>countBits) & stampMask
	dt := (stamp(nowNanos) - then) & stampMask
	if dt > stampMask/2 {
		return 0 // a clock that went back
	}
	return dt
}

func averageAge(w uint64, nowNanos int64) float64 {
	return float64(averageSteps(w, nowNanos)) * float64(int64(1)<<stampShift)
}

func (a *average) sample(nowNanos int64, value float64) {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return
	}
	now := uint64(stamp(nowNanos)&stampMask) << countBits
	for {
		w := a.word.Load()
		mean, count := value, uint64(1)
		if w != 0 {
			last := float64(math.Float32frombits(uint32(w >> 32)))
			count = min(w&countMask+1, countMask)
			part := max(1/float64(min(count, averageDepth)), 1-fade(averageSteps(w, nowNanos)))
			mean = last + part*(value-last)
		}
		if a.word.CompareAndSwap(w, uint64(math.Float32bits(float32(mean)))<<32|now|count) {
			return
		}
	}
}

// restore makes the mean one of many samples.
func (a *average) restore(nowNanos int64, mean float64) {
	a.word.Store(uint64(math.Float32bits(float32(mean)))<<32 | uint64(stamp(nowNanos)&stampMask)<<countBits | countMask)
}
