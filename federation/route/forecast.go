package route

import (
	"math"
	"sync/atomic"
	"time"
)

// Sizes are how large the requests and answers of one port of a service are, on
// average, wherever they are served.
type Sizes struct{ out, in average }

// Observe takes what one call moved, in bytes.
func (s *Sizes) Observe(nowNanos, out, in int64) {
	s.out.sample(nowNanos, float64(max(0, out)))
	s.in.sample(nowNanos, float64(max(0, in)))
}

// Means are the average request and answer in bytes; 0 before the first.
func (s *Sizes) Means(nowNanos int64) (out, in float64) {
	o, _, _ := s.out.read(nowNanos)
	i, _, _ := s.in.read(nowNanos)
	return float64(o), float64(i)
}

// Forecast is what is learned from how predictions of one target came true. Every
// method is safe for concurrent use, takes no lock and allocates nothing.
type Forecast struct {
	// processing is of endpoints of the own cluster: how long they took, without
	// waiting.
	processing average

	// What follows is told, and decides nothing.
	predicted, observed         average
	predictedWhole, observedAll average
	absolute, relative          average
	sums                        ForecastSums
}

// ForecastSums are counted since the start, of predictions that came true.
type ForecastSums struct {
	Calls atomic.Uint64
	// Nanoseconds to the first byte.
	Predicted, Observed, Error atomic.Uint64
}

// Observe takes how one prediction came true, to the first byte of the answer. One
// with a penalty is left out: what failures count for is meant to keep calls off, and
// not to come true.
func (f *Forecast) Observe(nowNanos int64, p *Prediction, first time.Duration) {
	if p.First <= 0 || first < 0 || p.Penalty > 0 {
		return
	}
	off := math.Abs(float64(first - p.First))
	f.predicted.sample(nowNanos, float64(p.First))
	f.observed.sample(nowNanos, float64(first))
	f.absolute.sample(nowNanos, off)
	f.relative.sample(nowNanos, off/max(float64(first), leastEstimate))
	f.sums.Calls.Add(1)
	f.sums.Predicted.Add(uint64(p.First))
	f.sums.Observed.Add(uint64(first))
	f.sums.Error.Add(uint64(off))
}

// ObserveWhole is the same to its last byte.
func (f *Forecast) ObserveWhole(nowNanos int64, p *Prediction, whole time.Duration) {
	if p.First <= 0 || whole < 0 || p.Penalty > 0 {
		return
	}
	f.predictedWhole.sample(nowNanos, float64(p.Whole))
	f.observedAll.sample(nowNanos, float64(whole))
}

// Processed takes how long an endpoint of the own cluster took, from the request's
// last byte to the answer's first, while inFlight calls were in progress at lanes
// endpoints: what those explain is no processing.
func (f *Forecast) Processed(nowNanos int64, took time.Duration, inFlight int64, lanes float64) {
	if took <= 0 {
		return
	}
	alone := float64(took) / max(1, float64(inFlight)/max(lanes, 1))
	if mean, known, _ := f.processing.read(nowNanos); known {
		alone = min(alone, (1+mostSurprise)*float64(mean))
	}
	f.processing.sample(nowNanos, alone)
}

// processingLife is how long a measured processing time is told.
const processingLife = 10 * time.Minute

// Processing is how long endpoints of the own cluster took lately; 0 is not known.
func (f *Forecast) Processing(nowNanos int64) time.Duration {
	p, known, age := f.processing.read(nowNanos)
	if !known || age > float64(processingLife) {
		return 0
	}
	return time.Duration(max(p, 1))
}

// Sums are the counts since the start.
func (f *Forecast) Sums() *ForecastSums { return &f.sums }

// ForecastReport is how the predictions of one target come true lately.
type ForecastReport struct {
	Calls uint64 `json:"calls"`
	// Means of the last calls, to the first byte of the answer and, of HTTP, the last.
	Predicted      time.Duration `json:"predicted_ns"`
	Observed       time.Duration `json:"observed_ns"`
	PredictedWhole time.Duration `json:"predicted_whole_ns,omitempty"`
	ObservedWhole  time.Duration `json:"observed_whole_ns,omitempty"`
	// Error is the mean absolute error, RelativeError that in parts of what was
	// observed; Bias is by how much the terms alone are too low.
	Error         time.Duration `json:"error_ns"`
	RelativeError float64       `json:"relative_error"`
	Bias          time.Duration `json:"bias_ns"`
	Penalty       time.Duration `json:"penalty_ns,omitempty"`
}

// Report tells it; nil before the first call, and without a failure.
func (f *Forecast) Report(nowNanos int64, c *Counters) *ForecastReport {
	last, _ := c.penalty.estimate(nowNanos)
	calls, penalty := f.sums.Calls.Load(), time.Duration(last)
	if calls == 0 && penalty == 0 {
		return nil
	}
	mean := func(a *average) time.Duration {
		v, _, _ := a.read(nowNanos)
		return time.Duration(v)
	}
	relative, _, _ := f.relative.read(nowNanos)
	return &ForecastReport{
		Calls: calls, Predicted: mean(&f.predicted), Observed: mean(&f.observed),
		PredictedWhole: mean(&f.predictedWhole), ObservedWhole: mean(&f.observedAll),
		Error: mean(&f.absolute), RelativeError: float64(relative),
		Bias: time.Duration(c.bias.faded(nowNanos)), Penalty: penalty,
	}
}

// restore rebuilds it, and what decides in c, from a report.
func (f *Forecast) restore(nowNanos int64, r *ForecastReport, c *Counters) {
	if r == nil {
		return
	}
	c.bias.restore(nowNanos, float64(r.Bias))
	if r.Penalty > 0 {
		c.penalty.sample(nowNanos, r.Penalty)
	}
	f.sums.Calls.Store(r.Calls)
	for a, v := range map[*average]time.Duration{
		&f.predicted: r.Predicted, &f.observed: r.Observed, &f.absolute: r.Error,
		&f.predictedWhole: r.PredictedWhole, &f.observedAll: r.ObservedWhole,
	} {
		a.restore(nowNanos, float64(v))
	}
	f.relative.restore(nowNanos, r.RelativeError)
}
