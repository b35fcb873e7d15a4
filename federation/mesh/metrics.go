package mesh

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	connections *prometheus.GaugeVec
	cut         *prometheus.CounterVec
	requests    *prometheus.CounterVec
	streams     prometheus.Gauge
	sent        prometheus.Counter
	tableBytes  prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		connections: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_federation_mesh_connections",
			Help: "Live connections of the mesh listener, by role: gateway, peer.",
		}, []string{"role"}),
		cut: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_federation_mesh_cut_total",
			Help: "Live connections that were cut, by reason: untrusted (bundle or certificate), unauthorized (peer removed).",
		}, []string{"reason"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_federation_mesh_requests_total",
			Help: "Requests that were answered on the mesh listener, by route and HTTP status.",
		}, []string{"route", "code"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "isthmus_federation_table_streams",
			Help: "Gateways that listen for route tables.",
		}),
		sent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_federation_tables_sent_total",
			Help: "Route tables handed to gateways.",
		}),
		tableBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "isthmus_federation_table_bytes",
			Help: "Size of the current route table as it is sent.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.connections, m.cut, m.requests, m.streams, m.sent, m.tableBytes)
	}
	return m
}
