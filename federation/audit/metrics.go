package audit

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	entries  prometheus.Counter
	failures prometheus.Counter
	sequence prometheus.Gauge
	problems prometheus.Gauge
	seconds  prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		entries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_federation_audit_entries_total",
			Help: "Entries of the audit log that were written.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_federation_audit_failures_total",
			Help: "Writes to the audit log that failed; changes are refused meanwhile.",
		}),
		sequence: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "isthmus_federation_audit_sequence",
			Help: "Sequence of the newest entry of the audit log.",
		}),
		problems: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "isthmus_federation_audit_problems",
			Help: "Places where the audit log was not what it was, when it was opened or verified last.",
		}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "isthmus_federation_audit_append_seconds",
			Help:    "Seconds to write and flush entries that came together.",
			Buckets: []float64{.0005, .002, .01, .05, .25, 1},
		}),
	}
	if reg != nil {
		reg.MustRegister(m.entries, m.failures, m.sequence, m.problems, m.seconds)
	}
	return m
}
