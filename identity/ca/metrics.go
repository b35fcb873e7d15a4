package ca

import (
	"errors"

	"github.com/isthmus-mesh/isthmus/identity/ca/hostapi"
	"github.com/isthmus-mesh/isthmus/identity/internal/workload"
	"github.com/prometheus/client_golang/prometheus"
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
	damaged          prometheus.Counter
	hosts            prometheus.Gauge
	hostRequests     *prometheus.CounterVec
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
		damaged: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_ca_damaged_files_total", Help: "State files that were damaged when they were read.",
		}),
	}
	m.hosts = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "isthmus_ca_hosts", Help: "Hosts that have joined.",
	})
	m.hostRequests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "isthmus_ca_host_requests_total", Help: "Requests of other hosts, by what became of them: served, or why refused.",
	}, []string{"outcome"})
	for _, outcome := range hostapi.Outcomes() {
		m.hostRequests.WithLabelValues(outcome)
	}
	for _, reason := range workload.Reasons() {
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
		m.federatedUpdated, m.federatedRefused, m.writeErrors, m.damaged, m.hosts, m.hostRequests,
	} {
		errs = append(errs, r.Register(c))
	}
	return errors.Join(errs...)
}
