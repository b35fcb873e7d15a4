package consul

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	fetches, failures, sweeps, requests prometheus.Counter

	connections prometheus.Gauge
	rejected    *prometheus.CounterVec
}

func newMetrics(name string) *metrics {
	labels := prometheus.Labels{"source": name}
	return &metrics{
		fetches: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_consul_service_reads_total", ConstLabels: labels,
			Help: "Reads of one service's instances.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_consul_failures_total", ConstLabels: labels,
			Help: "Queries that failed or whose answer was not to be trusted.",
		}),
		sweeps: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_consul_sweeps_total", ConstLabels: labels,
			Help: "Passes over all services.",
		}),
		requests: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_consul_requests_total", ConstLabels: labels,
			Help: "Requests to the agent of any kind.",
		}),
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "isthmus_consul_connections", ConstLabels: labels,
			Help: "Open connections to the agent, which allows a client 200 by default.",
		}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_consul_rejected_total", ConstLabels: labels,
			Help: "Instances or services that are no valid catalog values, each time they were read.",
		}, []string{"reason"}),
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{m.fetches, m.failures, m.sweeps, m.requests, m.connections, m.rejected} {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}
