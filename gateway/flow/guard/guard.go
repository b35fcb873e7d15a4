package guard

import (
	"math"
	"slices"
	"time"
)

// The constants of the judgment.
const (
	// Window is the least that is judged at once, and MinSamples the answers in it; where
	// fewer come, a window is at most maxWindow long if fewSamples came, and is dropped
	// after idleWindow.
	Window     = 250 * time.Millisecond
	MinSamples = 50
	maxWindow  = time.Second
	fewSamples = 10
	idleWindow = 10 * time.Second
	// keep is how many latencies of a window the median is taken of.
	keep = 128

	// Waste is how much more than the usual share of requests must have been given up.
	Waste = 0.1
	// Slow is how many times the usual median is slow, Crowd how many times the usual
	// number in progress is a crowd.
	Slow  = 2.0
	Crowd = 2.0

	// leastLearned is how many windows must have been seen to know what is usual.
	leastLearned = 8
	// slowly and soon are the time constants of what is usual. It rises slowly, or a queue
	// that builds up would be usual before the first caller gives up.
	slowly = 2 * time.Minute
	soon   = 20 * time.Second
	// rateMemory is that of the highest rate of answers.
	rateMemory = 30 * time.Second

	// leastCrowd is no crowd, whatever was usual.
	leastCrowd = 4

	// Floor is the least limit, whatever was usual.
	Floor = 2
	// buffer is how much slower than usual is no sign of a queue in a hold, and smoothing
	// how far a window moves the limit.
	buffer = 0.5
	// grow and shrink are how far a window moves the limit. It grows in longer steps: a
	// queue in the service harms nobody before it is as long as callers wait.
	grow   = 0.6
	shrink = 0.3
	// Quiet ends a hold: nothing met the limit for so long.
	Quiet = 10 * time.Second
	// Patience is how long a hold may be without any effect, or three times the latency
	// that it began with: what the service works on is worked off by then.
	Patience = 15 * time.Second
	// better is what part of waste and latency must be gone for a hold to have an effect.
	better = 0.3
	// Backoff is how long a hold is not tried after one without effect; it doubles up to
	// maxBackoff.
	Backoff    = time.Minute
	maxBackoff = 30 * time.Minute
)

// Change is what a sample has changed.
type Change uint8

// The changes.
const (
	// None: nothing.
	None Change = iota
	// Begun: a hold begins.
	Begun
	// Moved: the limit of a hold moved.
	Moved
	// Ended: the overload is over.
	Ended
	// Futile: the hold was given up, since it changed nothing.
	Futile
)

// Sample is a request that ended, or was answered.
type Sample struct {
	// Took is until the answer, or until it was given up.
	Took time.Duration
	// Pending is how many awaited their answer when it came, itself included.
	Pending int
	// Answered is false of one that its caller gave up.
	Answered bool
}

// Guard watches one service. The zero value has seen nothing.
type Guard struct {
	// What is usual; median is 0 until it is known.
	median  time.Duration
	pending float64
	waste   float64
	rate    float64 // answers a second, the highest of late
	learned float64 // windows that usual is of

	// The window under way.
	began  int64
	ended  int // samples
	wasted int
	peak   int // Pending at most
	kept   int
	took   [keep]time.Duration
	sorted [keep]time.Duration

	// The hold; limit is 0 without one.
	limit   float64
	floor   float64
	since   int64
	met     int64 // when the limit was met last
	metNow  bool  // in this window
	trouble window
	helped  bool
	backoff time.Duration
	not     int64 // before this no hold begins
}

// window is what is read off one.
type window struct {
	median time.Duration
	waste  float64
	rate   float64
	length time.Duration
}

// Limit is how many requests may await their answer; 0 is any number.
func (g *Guard) Limit() int { return int(g.limit) }

// Usual is the median latency of answers in health; 0 is not known.
func (g *Guard) Usual() time.Duration { return g.median }

// Proven reports whether the limit is what the service was found to take: that of a hold
// which callers have met within Quiet.
func (g *Guard) Proven(now int64) bool { return g.limit > 0 && now-g.met < int64(Quiet) }

// Meet says that a request found no room at once.
func (g *Guard) Meet(now int64) { g.met, g.metNow = now, true }

// Take takes a sample at now.
func (g *Guard) Take(now int64, s Sample) Change {
	if s.Took <= 0 {
		return None
	}
	if g.began == 0 || now < g.began || now-g.began > int64(idleWindow) {
		change := None
		if g.limit > 0 && now-g.met > int64(Quiet) {
			change = g.release(now, Ended)
		}
		g.begin(now)
		g.add(s)
		return change
	}
	g.add(s)
	open := time.Duration(now - g.began)
	if open < Window || g.ended < MinSamples && (open < maxWindow || g.ended < fewSamples) {
		return None
	}
	change := g.judge(now, open)
	g.begin(now)
	return change
}

func (g *Guard) add(s Sample) {
	if !s.Answered {
		if s.Took < g.median {
			return // quick to go: it says nothing of the service
		}
		if s.Took > time.Duration(Slow*float64(g.median)) {
			g.wasted++
		}
	}
	if g.ended++; g.kept < keep {
		g.took[g.kept] = s.Took
		g.kept++
	}
	g.peak = max(g.peak, s.Pending)
}

func (g *Guard) begin(now int64) {
	g.began, g.ended, g.wasted, g.peak, g.kept, g.metNow = now, 0, 0, 0, 0, false
}

// judge ends a window.
func (g *Guard) judge(now int64, length time.Duration) Change {
	s := g.sorted[:g.kept]
	copy(s, g.took[:g.kept])
	slices.Sort(s)
	w := window{
		median: s[len(s)/2], waste: float64(g.wasted) / float64(g.ended),
		rate: float64(g.ended-g.wasted) / length.Seconds(), length: length,
	}
	g.rate = max(w.rate, g.rate*math.Exp(-length.Seconds()/rateMemory.Seconds()))
	if g.limit > 0 {
		return g.hold(now, w)
	}
	if g.overloaded(w) && now >= g.not {
		g.start(now, w)
		return Begun
	}
	g.learn(w)
	return None
}

func (g *Guard) overloaded(w window) bool {
	return g.learned >= leastLearned && w.waste >= g.waste+Waste && float64(w.median) >= Slow*float64(g.median) &&
		float64(g.peak) >= max(Crowd*g.pending, leastCrowd)
}

// learn moves what is usual towards a window. The first windows count alike.
func (g *Guard) learn(w window) {
	g.learned++
	towards := func(usual, sample float64, rise, fall time.Duration) float64 {
		memory := rise
		if sample < usual {
			memory = fall
		}
		return usual + (sample-usual)*max(1-math.Exp(-w.length.Seconds()/memory.Seconds()), 1/g.learned)
	}
	g.median = time.Duration(towards(float64(g.median), float64(w.median), slowly, soon))
	g.pending = towards(g.pending, float64(g.peak), slowly, slowly)
	g.waste = towards(g.waste, w.waste, slowly, soon)
}

// start begins a hold.
func (g *Guard) start(now int64, w window) {
	g.floor = max(Floor, math.Ceil(g.pending))
	atOnce := g.rate * g.median.Seconds()
	g.limit = max(g.floor, math.Ceil((1+buffer)*atOnce+math.Sqrt(atOnce)))
	g.since, g.met, g.trouble, g.helped = now, now, w, false
}

// hold moves the limit, or ends the hold.
func (g *Guard) hold(now int64, w window) Change {
	g.helped = g.helped || w.waste < (1-better)*g.trouble.waste || float64(w.median) < (1-better)*float64(g.trouble.median)
	switch {
	case now-g.met > int64(Quiet):
		return g.release(now, Ended)
	case !g.helped && now-g.since > int64(max(Patience, 3*g.trouble.median)):
		return g.release(now, Futile)
	}
	gradient := min(max(float64(g.median)*(1+buffer)/float64(w.median), 0.5), 2)
	if gradient >= 1 && !g.metNow {
		return None // nobody asks for more
	}
	was, pace := g.Limit(), shrink
	next := gradient*g.limit + math.Sqrt(g.limit)
	if next > g.limit {
		pace = grow
	}
	g.limit = max(g.limit+pace*(next-g.limit), g.floor)
	if g.Limit() == was {
		return None
	}
	return Moved
}

func (g *Guard) release(now int64, why Change) Change {
	g.limit = 0
	if why == Futile {
		g.backoff = min(max(2*g.backoff, Backoff), maxBackoff)
		g.not = now + int64(g.backoff)
		return why
	}
	g.backoff = 0
	return why
}
