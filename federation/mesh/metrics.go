package mesh

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	connections *prometheus.GaugeVec
	cut         *prometheus.CounterVec
	requests    *prometheus.CounterVec
	namesakes   prometheus.Counter
	streams     prometheus.Gauge
	sent        *prometheus.CounterVec
	sentBytes   *prometheus.CounterVec
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
		namesakes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_federation_mesh_namesakes_total",
			Help: "Federations that were refused and are called as a peer is, under another identity: two clusters of one name.",
		}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_federation_mesh_requests_total",
			Help: "Requests that were answered on the mesh listener, by route and HTTP status.",
		}, []string{"route", "code"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "isthmus_federation_table_streams",
			Help: "Gateways that listen for route tables.",
		}),
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_federation_tables_sent_total",
			Help: "Route tables handed to gateways, by kind: patch (what has changed), full (everything, as a patch), table (everything, to a gateway that takes no patches).",
		}, []string{"kind"}),
		sentBytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_federation_table_sent_bytes_total",
			Help: "Bytes of route tables handed to gateways, by kind: patch, full, table.",
		}, []string{"kind"}),
		tableBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "isthmus_federation_table_bytes",
			Help: "Size of the route table as it was sent last to a gateway that had none.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.connections, m.cut, m.requests, m.namesakes, m.streams, m.sent, m.sentBytes, m.tableBytes)
	}
	return m
}
