package dns

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	queries, truncated prometheus.Counter
	failures, left     *prometheus.CounterVec
	failing            prometheus.Gauge
}

func newMetrics(name string) *metrics {
	labels := prometheus.Labels{"source": name}
	return &metrics{
		queries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_dns_queries_total", ConstLabels: labels, Help: "Queries to resolvers.",
		}),
		truncated: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_dns_truncated_total", ConstLabels: labels,
			Help: "Answers that did not fit into UDP and were asked for again over TCP.",
		}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_dns_failures_total", ConstLabels: labels,
			Help: "Queries that got no answer, or none to be believed, by why.",
		}, []string{"reason"}),
		left: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_dns_rejected_total", ConstLabels: labels,
			Help: "Records that are no valid catalog values, each time they were read.",
		}, []string{"reason"}),
		failing: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "isthmus_dns_failing_names", ConstLabels: labels,
			Help: "Names that cannot be resolved now; what was last known of them stays.",
		}),
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{m.queries, m.truncated, m.failures, m.left, m.failing} {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}
