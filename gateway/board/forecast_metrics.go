package board

import (
	"maps"
	"sync"

	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/prometheus/client_golang/prometheus"
)

// maxForecastSeries bounds the service@cluster pairs whose predictions have series of
// their own: those that were called first. What is called beyond is summed up as
// otherSeries.
const maxForecastSeries = 1000

const otherSeries = "other"

// forecastMetrics tells how predictions of the delay model come true. Sums and counts
// of nanoseconds are kept per target anyway; it reads them when it is asked.
type forecastMetrics struct {
	live                               *route.Live
	calls, predicted, observed, errors *prometheus.Desc

	mu       sync.Mutex
	admitted map[forecastPair]bool
}

type forecastPair struct{ service, cluster string }

type forecastSums struct{ calls, predicted, observed, errors uint64 }

func (s *forecastSums) add(calls uint64, o *route.ForecastSums) {
	s.calls += calls
	s.predicted += o.Predicted.Load()
	s.observed += o.Observed.Load()
	s.errors += o.Error.Load()
}

func newForecastMetrics(live *route.Live) *forecastMetrics {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("isthmus_gateway_delay_"+name+"_total", help, []string{"service", "cluster"}, nil)
	}
	return &forecastMetrics{
		live:      live,
		calls:     desc("predictions", "Calls whose time to the first byte was predicted and then observed."),
		predicted: desc("predicted_seconds", "Sum of the predicted times to the first byte."),
		observed:  desc("observed_seconds", "Sum of the observed times to the first byte of the same calls."),
		errors:    desc("error_seconds", "Sum of the absolute differences of both."),
		admitted:  make(map[forecastPair]bool),
	}
}

// Describe implements prometheus.Collector.
func (m *forecastMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.calls, m.predicted, m.observed, m.errors} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (m *forecastMetrics) Collect(to chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	sums := make(map[forecastPair]*forecastSums)
	known := make(map[forecastPair]bool)
	for t, f := range m.live.Forecasts() {
		n := f.Sums().Calls.Load()
		if n == 0 {
			continue
		}
		p := m.pair(t)
		known[p] = true
		sum := sums[p]
		if sum == nil {
			sum = new(forecastSums)
			sums[p] = sum
		}
		sum.add(n, f.Sums())
	}
	maps.DeleteFunc(m.admitted, func(p forecastPair, _ bool) bool { return !known[p] }) // the table has it no more
	for p, s := range sums {
		send := func(d *prometheus.Desc, v float64) {
			to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, p.service, p.cluster)
		}
		send(m.calls, float64(s.calls))
		send(m.predicted, float64(s.predicted)/1e9)
		send(m.observed, float64(s.observed)/1e9)
		send(m.errors, float64(s.errors)/1e9)
	}
}

// pair is where a target is counted. m.mu is held.
func (m *forecastMetrics) pair(t route.Target) forecastPair {
	p := forecastPair{t.Service.String(), string(t.Cluster)}
	switch {
	case m.admitted[p]:
	case len(m.admitted) < maxForecastSeries:
		m.admitted[p] = true
	default:
		return forecastPair{otherSeries, otherSeries}
	}
	return p
}
