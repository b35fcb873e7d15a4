package discovery

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the instruments of all Runners of a process. A Runner is in them
// from the start of its Run until its end.
type Metrics struct {
	updates, failures *prometheus.CounterVec

	mu      sync.Mutex
	runners map[*Runner]struct{}
}

// The reasons of isthmus_source_failures_total.
const (
	failRead  = "read"  // the source reported an error
	failEnd   = "end"   // the source's Run ended by itself
	failGuard = "guard" // what is held does not fit besides the read
	failStore = "store" // the last good snapshot could not be kept or read
	failName  = "name"  // a snapshot of another source's name
)

var (
	sourceLabel  = []string{"source"}
	servicesDesc = prometheus.NewDesc("isthmus_source_services",
		"Services of a source that are in force.", sourceLabel, nil)
	endpointsDesc = prometheus.NewDesc("isthmus_source_endpoints",
		"Endpoints of a source that are in force, quarantined ones included.", sourceLabel, nil)
	successDesc = prometheus.NewDesc("isthmus_source_last_success_timestamp_seconds",
		"When the last complete read of a source ended, in Unix seconds; 0 before the first.", sourceLabel, nil)
	quarantinedDesc = prometheus.NewDesc("isthmus_source_quarantined_endpoints",
		"Endpoints that a source has withdrawn and the guard holds.", sourceLabel, nil)
	refusedDesc = prometheus.NewDesc("isthmus_source_refused_endpoints",
		"Endpoints of the last read whose address a source may not publish.", []string{"source", "reason"}, nil)
	stateDesc = prometheus.NewDesc("isthmus_source_state",
		"1 for the state that a source is in, 0 for the others.", []string{"source", "state"}, nil)
)

// NewMetrics builds the instruments and registers them; nil registers nothing.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		updates: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_source_updates_total", Help: "Snapshots of a source that changed what is in force.",
		}, sourceLabel),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_source_failures_total", Help: "Failures of a source, by what failed.",
		}, []string{"source", "reason"}),
		runners: map[*Runner]struct{}{},
	}
	if reg == nil {
		return m, nil
	}
	return m, reg.Register(m)
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{servicesDesc, endpointsDesc, successDesc, quarantinedDesc, refusedDesc, stateDesc} {
		ch <- d
	}
	m.updates.Describe(ch)
	m.failures.Describe(ch)
}

// Collect implements prometheus.Collector: gauges are read when they are asked
// for, so that they are never older than the scrape.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.updates.Collect(ch)
	m.failures.Collect(ch)
	m.mu.Lock()
	runners := make([]*Runner, 0, len(m.runners))
	for r := range m.runners {
		runners = append(runners, r)
	}
	m.mu.Unlock()
	for _, r := range runners {
		st := r.Status()
		gauge := func(d *prometheus.Desc, v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{st.Name}, labels...)...)
		}
		gauge(servicesDesc, float64(st.Services))
		gauge(endpointsDesc, float64(st.Endpoints))
		gauge(quarantinedDesc, float64(st.QuarantinedCount))
		var success float64
		if !st.LastSuccess.IsZero() {
			success = float64(st.LastSuccess.UnixMilli()) / 1000
		}
		gauge(successDesc, success)
		for _, reason := range Refusals() {
			gauge(refusedDesc, float64(st.Refused[reason]), string(reason))
		}
		for _, state := range []State{Starting, OK, Stale, Failing, Quarantined} {
			var v float64
			if st.State == state {
				v = 1
			}
			gauge(stateDesc, v, string(state))
		}
	}
}

func (m *Metrics) add(r *Runner) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.runners[r] = struct{}{}
}

// remove takes a Runner and its series out.
func (m *Metrics) remove(r *Runner) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.runners, r)
	labels := prometheus.Labels{"source": r.opts.Name}
	m.updates.DeletePartialMatch(labels)
	m.failures.DeletePartialMatch(labels)
}
