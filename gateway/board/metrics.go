package board

import (
	"fmt"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	compiles       prometheus.Counter
	compileSeconds prometheus.Histogram
	ejections      *prometheus.CounterVec
	aborts         *prometheus.CounterVec
	up             *prometheus.GaugeVec
	withheld       *prometheus.GaugeVec
	slots          *prometheus.GaugeVec
	spare          *prometheus.GaugeVec
	granted        *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer, live *route.Live) (*metrics, error) {
	m := &metrics{
		compiles: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_gateway_plans_total", Help: "Plans compiled.",
		}),
		compileSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "isthmus_gateway_plan_compile_seconds", Help: "Time to compile a plan.",
			Buckets: []float64{.0001, .001, .01, .05, .1, .5, 1},
		}),
		ejections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_gateway_ejections_total", Help: "Ejections of a service in a cluster by passive outcomes.",
		}, []string{"service", "cluster"}),
		aborts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_gateway_fail_back_aborts_total", Help: "Fail-backs of a service in a cluster that were taken back because calls failed there.",
		}, []string{"service", "cluster"}),
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_gateway_cluster_up", Help: "1 while a link to the cluster takes new streams.",
		}, []string{"cluster"}),
		withheld: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_gateway_cluster_withheld_ratio", Help: "Part of the cluster's load that its fail-back still holds back.",
		}, []string{"cluster"}),
		slots: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_gateway_capacity_calls", Help: "Calls at once that this gateway may carry to the service's own endpoints, where their capacity is declared.",
		}, []string{"service", "port"}),
		spare: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_gateway_spare_calls", Help: "What the own callers' demand leaves of it for peers' calls, of each priority and those above it.",
		}, []string{"service", "port", "priority"}),
		granted: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_gateway_granted_calls", Help: "What is granted of it to peers' gateways, together, for calls of each priority and those above it.",
		}, []string{"service", "port", "priority"}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.compiles, m.compileSeconds, m.ejections, m.aborts, m.up, m.withheld, m.slots, m.spare, m.granted, newForecastMetrics(live)} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("board metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) reach(cluster catalog.ClusterName, up bool, withheld float64) {
	v := 0.0
	if up {
		v = 1
	}
	m.up.WithLabelValues(string(cluster)).Set(v)
	m.withheld.WithLabelValues(string(cluster)).Set(withheld)
}

// offers sets what peers were told last; what is told no longer has no series.
func (m *metrics) offers(was, told map[route.PortKey]offered) {
	for key := range was {
		if _, is := told[key]; !is {
			for _, g := range []*prometheus.GaugeVec{m.slots, m.spare, m.granted} {
				g.DeletePartialMatch(prometheus.Labels{"service": key.Service.String(), "port": key.Port})
			}
		}
	}
	for key, o := range told {
		service := key.Service.String()
		m.slots.WithLabelValues(service, key.Port).Set(float64(o.slots))
		for p := range route.Priority(route.Priorities) {
			m.spare.WithLabelValues(service, key.Port, p.String()).Set(float64(o.spare.UpTo(p)))
			m.granted.WithLabelValues(service, key.Port, p.String()).Set(float64(o.granted.UpTo(p)))
		}
	}
}

// retire deletes the series of services and peers that the new table has no more.
func (m *metrics) retire(old, now *route.Table) {
	if old == nil {
		return
	}
	services := make(map[catalog.ServiceName]bool, len(now.Services))
	for i := range now.Services {
		services[now.Services[i].Name] = true
	}
	for i := range old.Services {
		if n := old.Services[i].Name; !services[n] {
			m.ejections.DeletePartialMatch(prometheus.Labels{"service": n.String()})
			m.aborts.DeletePartialMatch(prometheus.Labels{"service": n.String()})
		}
	}
	peers := make(map[catalog.ClusterName]bool, len(now.Peers))
	for i := range now.Peers {
		peers[now.Peers[i].Name] = true
	}
	for i := range old.Peers {
		n := old.Peers[i].Name
		if peers[n] {
			continue
		}
		m.ejections.DeletePartialMatch(prometheus.Labels{"cluster": string(n)})
		m.aborts.DeletePartialMatch(prometheus.Labels{"cluster": string(n)})
		m.up.DeleteLabelValues(string(n))
		m.withheld.DeleteLabelValues(string(n))
	}
}
