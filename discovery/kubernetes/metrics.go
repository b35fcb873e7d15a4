package kubernetes

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	failures prometheus.CounterFunc
	synced   prometheus.GaugeFunc
	rejected *prometheus.CounterVec
}

func newMetrics(s *Source) *metrics {
	labels := prometheus.Labels{"source": s.opts.Name}
	return &metrics{
		failures: prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "isthmus_kubernetes_failures_total", ConstLabels: labels,
			Help: "Lists and watches of the API server that failed or were cut.",
		}, func() float64 { return float64(s.failures()) }),
		synced: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "isthmus_kubernetes_synced", ConstLabels: labels,
			Help: "1 once every list has been read completely.",
		}, func() float64 {
			if s.synced() {
				return 1
			}
			return 0
		}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_kubernetes_rejected_total", ConstLabels: labels,
			Help: "Services, ports or endpoints that are no valid catalog values, each time they changed.",
		}, []string{"reason"}),
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{m.failures, m.synced, m.rejected} {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}
