package ca

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Reasons for which a request is refused, the label of isthmus_ca_refused_total.
const (
	refusedUnattested  = "unattested"  // the kernel did not say who called
	refusedConnections = "connections" // too many of one user
	refusedHeader      = "header"      // without the security header, so perhaps by a tricked proxy
	refusedNoEntry     = "no_entry"    // no entry for that uid
)

// metrics are the instruments of a CA.
type metrics struct {
	issued           prometheus.Counter
	refused          *prometheus.CounterVec
	streams          prometheus.Gauge
	rootNotAfter     prometheus.Gauge
	roots            prometheus.Gauge
	sequence         prometheus.Gauge
	federatedUpdated *prometheus.GaugeVec
	federatedRefused *prometheus.CounterVec
	writeErrors      prometheus.Counter
}

func newMetrics() *metrics {
	m := &metrics{
		issued: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_ca_svids_issued_total", Help: "SVIDs issued.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_ca_refused_total", Help: "Connections and requests refused, by reason.",
		}, []string{"reason"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "isthmus_ca_streams", Help: "Open streams of the Workload API.",
		}),
		rootNotAfter: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "isthmus_ca_root_not_after_seconds", Help: "Unix time at which the newest root expires.",
		}),
		roots: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "isthmus_ca_roots", Help: "Roots in the bundle.",
		}),
		sequence: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "isthmus_ca_bundle_sequence", Help: "Sequence number of the own bundle.",
		}),
		federatedUpdated: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_ca_federated_updated_seconds", Help: "Unix time at which the federated bundle last changed.",
		}, []string{"trust_domain"}),
		federatedRefused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_ca_federated_refused_total", Help: "Readings of a federated bundle's file that were refused.",
		}, []string{"trust_domain"}),
		writeErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_ca_write_errors_total", Help: "State and bundle files that could not be written.",
		}),
	}
	for _, reason := range []string{refusedUnattested, refusedConnections, refusedHeader, refusedNoEntry} {
		m.refused.WithLabelValues(reason)
	}
	return m
}

func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.issued, m.refused, m.streams, m.rootNotAfter, m.roots, m.sequence,
		m.federatedUpdated, m.federatedRefused, m.writeErrors,
	} {
		errs = append(errs, r.Register(c))
	}
	return errors.Join(errs...)
}
