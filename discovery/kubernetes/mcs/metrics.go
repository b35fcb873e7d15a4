package mcs

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	leading  prometheus.Gauge
	passes   *prometheus.CounterVec
	failures prometheus.Counter
	writes   *prometheus.CounterVec
}

func newMetrics(owner string) *metrics {
	labels := prometheus.Labels{"owner": owner}
	return &metrics{
		leading: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "isthmus_kubernetes_sync_leading", ConstLabels: labels, Help: "1 while this process is the one that writes.",
		}),
		passes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_kubernetes_sync_passes_total", ConstLabels: labels,
			Help: "Comparisons of both sides; held: one side was not seen whole, failed: something could not be written.",
		}, []string{"result"}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_kubernetes_sync_failures_total", ConstLabels: labels, Help: "Writes that failed.",
		}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_kubernetes_sync_writes_total", ConstLabels: labels, Help: "Writes to the API server and to the federation.",
		}, []string{"kind", "verb"}),
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{m.leading, m.passes, m.failures, m.writes} {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}
