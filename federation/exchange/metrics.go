package exchange

import (
	"errors"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/prometheus/client_golang/prometheus"
)

// exporterMetrics are those of the server's side.
type exporterMetrics struct {
	streams, services, version *prometheus.GaugeVec
	batches, refused           *prometheus.CounterVec
}

func newExporterMetrics(r prometheus.Registerer) (*exporterMetrics, error) {
	m := &exporterMetrics{
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_exchange_served_streams", Help: "Streams that a peer has open here.",
		}, []string{"peer"}),
		services: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_exchange_served_services", Help: "Services that are exported to a peer.",
		}, []string{"peer"}),
		version: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_exchange_served_version", Help: "Version of what a peer is told, within the epoch.",
		}, []string{"peer"}),
		batches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_exchange_served_batches_total", Help: "Batches sent to a peer, full or delta.",
		}, []string{"peer", "kind"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_exchange_served_refused_total", Help: "Requests that were answered with a problem.",
		}, []string{"reason"}),
	}
	return m, register(r, m.streams, m.services, m.version, m.batches, m.refused)
}

func (m *exporterMetrics) remove(peer catalog.ClusterName) {
	for _, v := range []interface {
		DeletePartialMatch(prometheus.Labels) int
	}{m.streams, m.services, m.version, m.batches} {
		v.DeletePartialMatch(prometheus.Labels{"peer": string(peer)})
	}
}

// ImporterMetrics are those of all Importers of a process, by peer.
type ImporterMetrics struct {
	connected, lost, heard, services *prometheus.GaugeVec
	quota                            *prometheus.GaugeVec
	batches, refused, reconnects     *prometheus.CounterVec
	saveErrors                       *prometheus.CounterVec
}

// NewImporterMetrics registers the instruments; a nil registerer registers none.
func NewImporterMetrics(r prometheus.Registerer) (*ImporterMetrics, error) {
	m := &ImporterMetrics{
		connected: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_exchange_connected_state", Help: "1 while the peer's stream is open and in sync.",
		}, []string{"peer"}),
		lost: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_exchange_control_lost_state", Help: "1 while the peer's control plane has not been heard for its lease.",
		}, []string{"peer"}),
		heard: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_exchange_heard_timestamp_seconds", Help: "When the peer's federation was heard last, as Unix time.",
		}, []string{"peer"}),
		services: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_exchange_offered_services", Help: "Services that the peer offers, whether imported or not.",
		}, []string{"peer"}),
		quota: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_exchange_quota_used_ratio",
			Help: "Share of the peer's quota that what is held of it uses, by quota: services, rows, endpoints, bytes. What would be above 1 is refused.",
		}, []string{"peer", "quota"}),
		batches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_exchange_applied_batches_total", Help: "Batches of the peer that were applied.",
		}, []string{"peer"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_exchange_refused_batches_total", Help: "Streams of the peer that ended with a refusal, by its reason.",
		}, []string{"peer", "reason"}),
		reconnects: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_exchange_connects_total", Help: "Attempts to open a stream to the peer.",
		}, []string{"peer"}),
		saveErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_exchange_save_errors_total", Help: "States of the peer that could not be kept on disk.",
		}, []string{"peer"}),
	}
	return m, register(r, m.connected, m.lost, m.heard, m.services, m.quota, m.batches, m.refused, m.reconnects, m.saveErrors)
}

// holds sets what is held of a peer.
func (m *ImporterMetrics) holds(peer string, s *Snapshot, l Limits) {
	m.services.WithLabelValues(peer).Set(float64(len(s.Services())))
	if s == nil {
		return
	}
	for _, q := range s.totals.quotas(l) {
		m.quota.WithLabelValues(peer, q.what).Set(float64(q.value) / float64(q.limit))
	}
}

// importerSeries are those that a batch of one peer moves, found once.
type importerSeries struct {
	connected, lost, heard, services prometheus.Gauge
	batches                          prometheus.Counter
	quota                            [4]prometheus.Gauge
}

func (m *ImporterMetrics) of(peer string) *importerSeries {
	s := &importerSeries{
		connected: m.connected.WithLabelValues(peer), lost: m.lost.WithLabelValues(peer), heard: m.heard.WithLabelValues(peer),
		services: m.services.WithLabelValues(peer), batches: m.batches.WithLabelValues(peer),
	}
	for i, q := range new(totals).quotas(Limits{}) {
		s.quota[i] = m.quota.WithLabelValues(peer, q.what)
	}
	return s
}

// holds sets what is held of the peer.
func (s *importerSeries) holds(now *Snapshot, l Limits) {
	s.services.Set(float64(len(now.Services())))
	for i, q := range now.totals.quotas(l) {
		s.quota[i].Set(float64(q.value) / float64(q.limit))
	}
}

// remove deletes a peer's series.
func (m *ImporterMetrics) remove(peer catalog.ClusterName) {
	for _, v := range []interface {
		DeletePartialMatch(prometheus.Labels) int
	}{m.connected, m.lost, m.heard, m.services, m.quota, m.batches, m.refused, m.reconnects, m.saveErrors} {
		v.DeletePartialMatch(prometheus.Labels{"peer": string(peer)})
	}
}

func register(r prometheus.Registerer, all ...prometheus.Collector) error {
	if r == nil {
		return nil
	}
	var errs []error
	for _, c := range all {
		errs = append(errs, r.Register(c))
	}
	return errors.Join(errs...)
}
