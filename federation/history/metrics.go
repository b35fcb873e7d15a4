package history

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	records, bytes, sequence, broken prometheus.Gauge
	raced, dropped                   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		records:  gauge("isthmus_history_records", "Records of the history that are kept, the base included."),
		bytes:    gauge("isthmus_history_bytes", "Bytes of the records besides the base."),
		sequence: gauge("isthmus_history_sequence", "Sequence of the last record."),
		broken:   gauge("isthmus_history_broken", "1 where the chain of records does not fit."),
		raced:    counter("isthmus_history_raced_writes_total", "Writes that were tried again because another one was faster."),
		dropped:  counter("isthmus_history_dropped_records_total", "Records that compaction has dropped behind a checkpoint."),
	}
	var errs []error
	if reg != nil {
		for _, c := range []prometheus.Collector{m.records, m.bytes, m.sequence, m.broken, m.raced, m.dropped} {
			errs = append(errs, reg.Register(c))
		}
	}
	return m, errors.Join(errs...)
}
