package trails

import "github.com/prometheus/client_golang/prometheus"

// Why a trail was not kept, or no longer.
const (
	droppedRate  = "rate"
	droppedBytes = "bytes"
)

type metrics struct {
	kept, dropped *prometheus.CounterVec
	bytes         prometheus.Gauge
	inexact       prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		kept: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_gateway_trails_kept_total", Help: "Calls whose decisions were kept to be explained, by why.",
		}, []string{"reason"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_gateway_trails_dropped_total", Help: "Calls that were to be kept and were not, or no longer, by the bound: rate or bytes.",
		}, []string{"reason"}),
		bytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "isthmus_gateway_trails_plan_bytes", Help: "What kept calls hold alive of plans, by estimate.",
		}),
		inexact: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_gateway_trails_inexact_total", Help: "Decisions that were repeated to be explained and came out otherwise. It is always 0; anything else is a fault of this program.",
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.kept, m.dropped, m.bytes, m.inexact} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
