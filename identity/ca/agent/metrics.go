package agent

import (
	"errors"

	"github.com/isthmus-mesh/isthmus/identity/internal/workload"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the instruments of an Agent.
type metrics struct {
	notAfter    prometheus.Gauge
	svids       prometheus.Gauge
	signed      prometheus.Counter
	heard       prometheus.Gauge
	caErrors    prometheus.Counter
	streams     prometheus.Gauge
	refused     *prometheus.CounterVec
	writeErrors prometheus.Counter
	damaged     prometheus.Counter
}

func newMetrics() *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "isthmus_ca_agent_" + name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "isthmus_ca_agent_" + name, Help: help})
	}
	m := &metrics{
		notAfter: gauge("svid_not_after_seconds", "Unix time at which the host's own SVID expires."),
		svids:    gauge("svids", "SVIDs that the host holds for its workloads."),
		signed:   counter("svids_signed_total", "SVIDs that the CA has signed for the host's workloads."),
		heard:    gauge("ca_heard_seconds", "Unix time at which the CA last answered."),
		caErrors: counter("ca_errors_total", "Requests to the CA that failed."),
		streams:  gauge("streams", "Open streams of the Workload API."),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_ca_agent_refused_total", Help: "Connections and requests of workloads refused, by reason.",
		}, []string{"reason"}),
		writeErrors: counter("write_errors_total", "State files that could not be written."),
		damaged:     counter("damaged_files_total", "State files that were damaged when they were read."),
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
	for _, c := range []prometheus.Collector{m.notAfter, m.svids, m.signed, m.heard, m.caErrors, m.streams, m.refused, m.writeErrors, m.damaged} {
		errs = append(errs, r.Register(c))
	}
	return errors.Join(errs...)
}
