package aws

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/providers/aws/unit"
)

// metrics of a source. Their label values are of closed sets: units and accounts of
// the configuration, reasons, APIs that are called.
type metrics struct {
	reads, failures, calls, throttled *prometheus.CounterVec
	rejected                          *prometheus.CounterVec
	age                               *ages
}

var unitLabels = []string{"account", "region", "kind"}

func newMetrics(source string, units func() []age) *metrics {
	constant := prometheus.Labels{"source": source}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: constant}, labels)
	}
	return &metrics{
		reads:    counter("isthmus_aws_reads_total", "Complete reads of a unit.", unitLabels...),
		failures: counter("isthmus_aws_failures_total", "Reads of a unit that failed; what was known stays.", append(unitLabels, "reason")...),
		rejected: counter("isthmus_aws_rejected_total", "Items left out since they are no valid catalog values, each time they were read in full.", append(unitLabels, "reason")...),
		calls:    counter("isthmus_aws_calls_total", "Attempts of calls to an API.", "account", "region", "service"),
		throttled: counter("isthmus_aws_throttled_total", "Attempts of calls that AWS answered with a demand for fewer.",
			"account", "region", "service"),
		age: &ages{units: units, desc: prometheus.NewDesc("isthmus_aws_age_seconds",
			"Seconds since the last complete read of a unit; absent before the first.", unitLabels, constant)},
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{m.reads, m.failures, m.rejected, m.calls, m.throttled, m.age} {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}

func labelsOf(n unit.Name, more ...string) []string {
	return append([]string{n.Account, n.Region, n.Kind}, more...)
}

// age is one unit's.
type age struct {
	name unit.Name
	read time.Time
}

// ages are collected when they are asked for: an age stands still for nobody.
type ages struct {
	units func() []age
	desc  *prometheus.Desc
}

func (a *ages) Describe(ch chan<- *prometheus.Desc) { ch <- a.desc }

func (a *ages) Collect(ch chan<- prometheus.Metric) {
	for _, u := range a.units() {
		if !u.read.IsZero() {
			ch <- prometheus.MustNewConstMetric(a.desc, prometheus.GaugeValue, time.Since(u.read).Seconds(), labelsOf(u.name)...)
		}
	}
}
