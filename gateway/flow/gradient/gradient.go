package gradient

import (
	"math"
	"slices"
	"time"
)

// The constants of the law; where no other reason is said, they are Envoy's.
const (
	// Buffer is how much slower than unloaded is no sign of a queue.
	Buffer = 0.25
	// Window is how often the limit is judged anew, if MinSamples answers came.
	Window = 100 * time.Millisecond
	// MinSamples make a median; below, the window goes on, at most until maxWindow. The
	// median of fewer answers of a service whose times vary is mostly chance.
	MinSamples = 50
	maxWindow  = 10 * Window
	// keep is how many answers of a window the median is taken of: the first ones, since
	// a window that has more is short.
	keep = 128
	// Period is how old what an unloaded request takes may become before it is measured
	// anew; up to Jitter of it more, so that gateways do not measure together. The first
	// measurements follow each other sooner: firstPeriod, and then twice as long each
	// time, since the service may have been loaded when it was met.
	Period      = 60 * time.Second
	firstPeriod = 2 * time.Second
	Jitter      = 0.15
	// probeSamples end a measurement, and probeShare is what it leaves of the limit: a
	// limit that is up to three times too high is then seen through at once, and one
	// above that comes down a step with each measurement.
	probeSamples = 100
	probeShare   = 1.0 / 3
	// smoothing is how far a window moves the limit: the median of a hundred answers is
	// off by a tenth by chance alone, and a limit that follows it dips below what the
	// service can do.
	smoothing = 0.3
	// The gradient's bounds.
	minGradient, maxGradient = 0.5, 2.0
)

// The defaults of Options.
const (
	DefaultFloor = 3
	DefaultMax   = 1000
	// initialLimit is where a limit starts: what most services can take, and a few
	// windows away from both what less can and what more can.
	initialLimit = 20
)

// Options bound the limit; 0 is the default.
type Options struct {
	Floor, Max int
	// Random spreads measurements; nil is none.
	Random func() uint64
}

// Controller is the limit of one service.
type Controller struct {
	floor, most float64
	random      func() uint64

	limit    float64
	unloaded time.Duration // 0 until it is known

	// The window under way.
	began   int64
	samples int
	peak    int // requests in progress at most
	took    [keep]time.Duration
	sorted  [keep]time.Duration

	probing bool
	drained int64         // when a measurement had what was above its limit behind it
	last    time.Duration // the median of the window before it
	before  float64       // the limit before the measurement
	due     int64
	period  time.Duration // until the one after
}

// New returns a controller at its initial limit.
func New(o Options) *Controller {
	c := &Controller{floor: float64(o.Floor), most: float64(o.Max), random: o.Random}
	if c.floor < 1 {
		c.floor = DefaultFloor
	}
	if c.most < 1 {
		c.most = DefaultMax
	}
	c.most, c.period = max(c.most, c.floor), firstPeriod
	c.limit = min(max(initialLimit, c.floor), c.most)
	return c
}

// Limit is how many requests may be in progress.
func (c *Controller) Limit() int { return int(c.limit) }

// Unloaded is what a request takes that waits for nobody; 0 is not known yet.
func (c *Controller) Unloaded() time.Duration { return c.unloaded }

// Probing reports whether a measurement holds the limit down.
func (c *Controller) Probing() bool { return c.probing }

// Sample takes the latency of one answer at now (Unix nanoseconds). inProgress is how
// many requests were in progress when it came, itself included. It reports whether the
// limit has changed.
func (c *Controller) Sample(now int64, took time.Duration, inProgress int) (changed bool) {
	if took <= 0 {
		return false
	}
	if c.began == 0 || now < c.began || !c.probing && now-c.began > int64(2*maxWindow) {
		c.begin(now) // the first, a clock that went back, or an idle time
	}
	if c.due == 0 {
		c.schedule(now)
	}
	if c.probing && !c.counts(now, inProgress) {
		return false
	}
	if c.samples < keep {
		c.took[c.samples] = took
		c.samples++
	}
	c.peak = max(c.peak, inProgress)
	open := now - c.began
	if c.probing {
		if c.samples < probeSamples && open < int64(maxWindow) {
			return false
		}
	} else if open < int64(Window) || c.samples < MinSamples && open < int64(maxWindow) {
		return false
	}
	was := c.Limit()
	c.judge(now)
	c.begin(now)
	return c.Limit() != was
}

// counts says whether an answer tells of the measurement: once no more were in progress
// than it lets in, twice the median must pass. Right at its begin the answers are those
// of requests from before, and of the quick ones after. A measurement that cannot begin,
// since requests hang, is given up.
func (c *Controller) counts(now int64, inProgress int) bool {
	switch {
	case c.drained == 0 && inProgress <= c.Limit():
		c.drained = now
	case c.drained == 0 && now-c.began > int64(2*maxWindow):
		c.probing, c.limit = false, c.before
		c.begin(now)
		c.schedule(now)
	}
	switch settled := c.drained + int64(2*c.last); {
	case c.drained == 0 || now < settled:
		return false
	case c.began < settled:
		c.begin(now)
	}
	return true
}

func (c *Controller) begin(now int64) { c.began, c.samples, c.peak = now, 0, 0 }

// judge ends a window.
func (c *Controller) judge(now int64) {
	median := c.median()
	switch {
	case c.probing:
		c.probing = false
		c.limit = c.before
		c.measure(now, median)
		return
	case c.unloaded == 0:
		c.unloaded = median // whatever the load is: it is measured soon
	case float64(c.peak) <= c.floor:
		// So few wait for nobody, whatever they take: the service may have become
		// slower, or faster.
		c.measure(now, median)
	}
	gradient := float64(c.unloaded) * (1 + Buffer) / float64(median)
	gradient = min(max(gradient, minGradient), maxGradient)
	if float64(c.peak) >= c.limit/2 {
		next := gradient*c.limit + math.Sqrt(c.limit)
		c.limit = min(max(c.limit+smoothing*(next-c.limit), c.floor), c.most)
	}
	if now >= c.due {
		c.probing, c.before, c.drained, c.last = true, c.limit, 0, median
		c.limit = max(c.limit*probeShare, c.floor)
	}
}

// measure takes over what an unloaded request takes: the more answers say so, the more
// it counts.
func (c *Controller) measure(now int64, median time.Duration) {
	weight := min(1, float64(c.samples)/probeSamples)
	c.unloaded += time.Duration(weight * float64(median-c.unloaded))
	c.schedule(now)
}

func (c *Controller) schedule(now int64) {
	c.due = now + int64(c.period)
	if c.random != nil {
		c.due += int64(c.random() % uint64(float64(c.period)*Jitter))
	}
	c.period = min(2*c.period, Period)
}

func (c *Controller) median() time.Duration {
	s := c.sorted[:c.samples]
	copy(s, c.took[:c.samples])
	slices.Sort(s)
	return s[len(s)/2]
}
