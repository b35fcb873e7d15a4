package account

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	bytes    *prometheus.CounterVec
	inFlight *prometheus.GaugeVec
	refused  *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_gateway_requests_total",
			Help: "Connections (ways tcp, mtls and stream), flows (ways udp and flow) and requests that ended, by where they were served and why they ended.",
		}, []string{"way", "service", "cluster", "reason"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "isthmus_gateway_first_answer_seconds",
			Help:    "Time until the service answered: the connection was confirmed, or the response's header came.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"way", "service"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_gateway_payload_bytes_total",
			Help: "Payload, counted as it moves: sent is from the caller to the service.",
		}, []string{"way", "service", "direction"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_gateway_in_flight", Help: "Connections and requests in progress.",
		}, []string{"way"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_gateway_refusals_total",
			Help: "Connections and requests that got no answer of the service, by reason.",
		}, []string{"way", "reason"}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.bytes, m.inFlight, m.refused} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("account metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) retire(service string) {
	labels := prometheus.Labels{"service": service}
	m.requests.DeletePartialMatch(labels)
	m.seconds.DeletePartialMatch(labels)
	m.bytes.DeletePartialMatch(labels)
}
