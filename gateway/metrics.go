package gateway

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	epoch, version prometheus.Gauge
	tables         *prometheus.CounterVec
	saves          *prometheus.CounterVec
	switches       *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer, g *Gateway) (*metrics, error) {
	m := &metrics{
		epoch:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "isthmus_gateway_table_epoch", Help: "Epoch of the route table in force."}),
		version: prometheus.NewGauge(prometheus.GaugeOpts{Name: "isthmus_gateway_table_version", Help: "Version of the route table in force."}),
		tables: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_gateway_tables_total", Help: "Route tables that were offered, by what became of them.",
		}, []string{"result"}),
		saves: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_gateway_table_saves_total", Help: "Route tables written to disk.",
		}, []string{"result"}),
		switches: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_gateway_switch", Help: "1 while an operator has set the switch at this gateway: freeze, pin or failover_off.",
		}, []string{"switch"}),
	}
	gauge := func(name, help string, value func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value()) })
	}
	for _, c := range []prometheus.Collector{
		m.epoch, m.version, m.tables, m.saves, m.switches,
		gauge("isthmus_gateway_connections", "Connections of all ways in.", g.slots.Used),
		gauge("isthmus_gateway_connections_max", "The most that are taken.", g.slots.Most),
		gauge("isthmus_gateway_http_requests", "HTTP requests of callers in progress.", g.requests.Used),
		gauge("isthmus_gateway_http_requests_max", "The most that are taken.", g.requests.Most),
		gauge("isthmus_gateway_spliced", "Pairs of connections that bytes are carried between.", func() int { return int(g.splicer.Open()) }),
		gauge("isthmus_gateway_generation", "How many processes of this gateway there were, upgraded in place, with this one.", func() int {
			if g.o.Estate == nil {
				return 1
			}
			return g.o.Estate.Generation()
		}),
		gauge("isthmus_gateway_predecessors", "Processes before this one that still finish what they carry.", func() int { return len(g.predecessors()) }),
		gauge("isthmus_gateway_predecessor_streams", "Streams and requests on links that they still carry.", func() (n int) {
			for _, p := range g.predecessors() {
				n += int(p.Fare.Streams)
			}
			return n
		}),
		gauge("isthmus_gateway_predecessor_connections", "Connections of callers that they still carry.", func() (n int) {
			for _, p := range g.predecessors() {
				n += int(p.Fare.Connections)
			}
			return n
		}),
		gauge("isthmus_gateway_ready", "1 while the gateway is ready.", func() int {
			if _, ready := g.conditions.List(); ready {
				return 1
			}
			return 0
		}),
	} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	return m, nil
}
