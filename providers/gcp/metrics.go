package gcp

import "github.com/prometheus/client_golang/prometheus"

// kind is what is read of a project: a closed set, since it is a label.
type kind string

const (
	kindInstances      kind = "instances"
	kindManagedGroups  kind = "managed_groups"
	kindEndpointGroups kind = "endpoint_groups"
	kindDirectory      kind = "service_directory"
)

// The reasons for leaving an item out.
const (
	badName    = "name"    // no DNS label, or reserved
	badAddress = "address" // none, or no IP address
	badPort    = "port"    // no port number
	badLabel   = "label"   // no label of the catalog; the endpoint stays
	badService = "service" // breaks another rule of the catalog
)

// metrics count for one source. The label project has the configuration's
// projects only, for as long as the process.
type metrics struct {
	requests, throttled *prometheus.CounterVec
	reads, failures     *prometheus.CounterVec
	success, kept       *prometheus.GaugeVec
	rejected            *prometheus.CounterVec
}

func newMetrics(name string) *metrics {
	constant := prometheus.Labels{"source": name}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: constant}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: constant}, labels)
	}
	return &metrics{
		requests:  counter("isthmus_gcp_requests_total", "Requests to Google's APIs, retries included.", "project"),
		throttled: counter("isthmus_gcp_throttled_total", "Answers that a quota is exceeded; the project then rests.", "project"),
		reads:     counter("isthmus_gcp_reads_total", "Complete reads.", "project", "kind"),
		failures:  counter("isthmus_gcp_failures_total", "Reads of a list or a part of one that failed.", "project", "reason"),
		success: gauge("isthmus_gcp_last_success_timestamp_seconds",
			"When the last complete read ended, in Unix seconds.", "project", "kind"),
		kept:     gauge("isthmus_gcp_kept_scopes", "Scopes of which the last known is published, since they were not to be read.", "project"),
		rejected: counter("isthmus_gcp_rejected_total", "Items that are no valid catalog values, each time they were read.", "reason"),
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.throttled, m.reads, m.failures, m.success, m.kept, m.rejected} {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}
