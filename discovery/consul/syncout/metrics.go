package syncout

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	writer   prometheus.Gauge
	entries  *prometheus.GaugeVec
	refused  *prometheus.GaugeVec
	writes   prometheus.Counter
	failures prometheus.Counter
	compared prometheus.Gauge
	all      []prometheus.Collector
}

func newMetrics() *metrics {
	m := &metrics{
		writer: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "isthmus_consul_sync_out_writer", Help: "1 while this process holds the lock and writes.",
		}),
		entries: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_consul_sync_out_entries", Help: "Entries that are kept in Consul, told by the writer.",
		}, []string{"reachable"}),
		refused: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_consul_sync_out_refused", Help: "Ways in to imported services that are not registered, told by the writer.",
		}, []string{"reason"}),
		writes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_consul_sync_out_writes_total", Help: "Operations that Consul has carried out.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_consul_sync_out_failures_total", Help: "Attempts to read, lock or write that failed.",
		}),
		compared: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "isthmus_consul_sync_out_compared_timestamp_seconds", Help: "When Consul was last found, or brought, in line with what is imported.",
		}),
	}
	m.all = []prometheus.Collector{m.writer, m.entries, m.refused, m.writes, m.failures, m.compared}
	return m
}

func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for _, c := range m.all {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// idle: another process may be the one to tell.
func (m *metrics) idle() {
	m.writer.Set(0)
	m.entries.Reset()
	m.refused.Reset()
}

// set tells what a plan leaves.
func (m *metrics) set(p *plan) {
	m.entries.WithLabelValues("true").Set(float64(p.reachable))
	m.entries.WithLabelValues("false").Set(float64(p.entries - p.reachable))
	by := map[string]float64{}
	for _, r := range p.refused {
		by[r.Reason]++
	}
	for _, reason := range reasons {
		m.refused.WithLabelValues(reason).Set(by[reason])
	}
	m.compared.SetToCurrentTime()
}
