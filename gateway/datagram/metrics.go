package datagram

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Why datagrams are dropped.
const (
	// DropQueue: a flow's datagrams come faster than its path takes them.
	DropQueue = "queue_full"
	// DropFlows: the listener, or the gateway, has as many flows as it may.
	DropFlows = "too_many_flows"
	// DropSource: it comes from where nobody may call from.
	DropSource = "source"
	// DropSourceFlows: its source address has as many flows as it may.
	DropSourceFlows = "too_many_flows_of_source"
	// DropSocket: the system took it not: too large for the network, or no room.
	DropSocket = "socket"
	// DropRefused: its flow was refused a moment ago.
	DropRefused = "refused"
	// DropDraining: nothing new is taken.
	DropDraining = "draining"
)

// Metrics count datagrams between the gateway and who it speaks UDP with.
type Metrics struct {
	moved   *prometheus.CounterVec
	dropped *prometheus.CounterVec
}

// NewMetrics returns Metrics; r may be nil.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		moved: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_gateway_datagrams_total",
			Help: "Datagrams of UDP services: sent is from the caller to the service.",
		}, []string{"way", "direction"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_gateway_datagrams_dropped_total",
			Help: "Datagrams of UDP services that were dropped, by reason.",
		}, []string{"way", "reason"}),
	}
	if r == nil {
		return m, nil
	}
	if err := errors.Join(r.Register(m.moved), r.Register(m.dropped)); err != nil {
		return nil, fmt.Errorf("datagram metrics: %w", err)
	}
	return m, nil
}

// Drop counts one that was dropped.
func (m *Metrics) Drop(way, reason string) { m.dropped.WithLabelValues(way, reason).Inc() }
