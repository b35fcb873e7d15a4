package drill

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	running             prometheus.Gauge
	calls, failed, late *prometheus.CounterVec
	ends                *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	side := []string{"side"}
	m := &metrics{
		running: prometheus.NewGauge(prometheus.GaugeOpts{Name: "isthmus_gateway_drill", Help: "1 while calls are drilled."}),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_gateway_drill_calls_total", Help: "Calls that a drill concerned, by side: drilled, control (routed as ever), spared (of the share, but they would have gone nowhere).",
		}, side),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_gateway_drill_failed_total", Help: "Calls that a drill concerned whose first attempt failed, by side.",
		}, side),
		late: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_gateway_drill_late_total", Help: "Calls that a drill concerned whose first attempt took longer than it may, by side.",
		}, side),
		ends: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_gateway_drill_ends_total", Help: "Drills that ended at this gateway, by reason.",
		}, []string{"reason"}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.running, m.calls, m.failed, m.late, m.ends} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("drill metrics: %w", err)
		}
	}
	return m, nil
}
