package health

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// The results of a check.
const (
	resultOK        = "ok"
	resultFailed    = "failed"
	resultDiscarded = "discarded"
)

type metrics struct {
	checks    *prometheus.CounterVec
	endpoints *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		checks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_gateway_health_checks_total",
			Help: "Active health checks of the own cluster's endpoints. discarded: a timeout while this process did not run.",
		}, []string{"result"}),
		endpoints: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_gateway_checked_endpoints",
			Help: "Endpoints of the own cluster by what active checks found.",
		}, []string{"state"}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.checks, m.endpoints} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("health metrics: %w", err)
		}
	}
	return m, nil
}
