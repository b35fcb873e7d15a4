package consulkv

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	reachable             prometheus.Gauge
	conflicts, unresolved prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		reachable:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "isthmus_store_reachable", Help: "1 while Consul answers with the whole store."}),
		conflicts:  prometheus.NewCounter(prometheus.CounterOpts{Name: "isthmus_store_conflicts_total", Help: "Transactions that were tried again because another one was faster."}),
		unresolved: prometheus.NewCounter(prometheus.CounterOpts{Name: "isthmus_store_lost_answers_total", Help: "Transactions whose answer was lost, and that were looked for."}),
	}
	m.reachable.Set(1)
	var errs []error
	if reg != nil {
		for _, c := range []prometheus.Collector{m.reachable, m.conflicts, m.unresolved} {
			errs = append(errs, reg.Register(c))
		}
	}
	return m, errors.Join(errs...)
}
