package peering

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	invitations prometheus.Gauge
	joins       *prometheus.CounterVec
	refused     *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		invitations: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "isthmus_peering_invitations", Help: "Invitations that are open.",
		}),
		joins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_peering_joins_total", Help: "Peers that were joined by a token, by the side that this cluster took: inviter, acceptor.",
		}, []string{"side"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_peering_refused_total", Help: "Peerings by token that were refused, here or by the other cluster, by reason.",
		}, []string{"reason"}),
	}
	if reg == nil {
		return m, nil
	}
	return m, errors.Join(reg.Register(m.invitations), reg.Register(m.joins), reg.Register(m.refused))
}
