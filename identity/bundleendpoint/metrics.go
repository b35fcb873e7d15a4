package bundleendpoint

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Metrics are the instruments of the followers of a process. Series go with their
// trust domain. A nil *Metrics counts nothing.
type Metrics struct {
	fetches   *prometheus.CounterVec
	fetchedAt *prometheus.GaugeVec
	failing   *prometheus.GaugeVec
	damaged   prometheus.Counter
}

// Outcomes of a fetch, the label of isthmus_bundle_fetches_total.
const (
	outcomeTaken  = "taken"
	outcomeFailed = "failed"
)

// NewMetrics registers the instruments of followers; a nil Registerer registers
// none.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"trust_domain"})
	}
	m := &Metrics{
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_bundle_fetches_total",
			Help: "Fetches from another trust domain's bundle endpoint, by what became of them: taken, failed.",
		}, []string{"trust_domain", "outcome"}),
		fetchedAt: gauge("isthmus_bundle_fetched_seconds", "Unix time of the last good answer of the trust domain's bundle endpoint; 0 when there was none."),
		failing:   gauge("isthmus_bundle_endpoint_failing", "1 while the trust domain's bundle endpoint fails, else 0."),
		damaged: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_bundle_damaged_files_total", Help: "Files of last good bundles that were damaged when they were read.",
		}),
	}
	if r == nil {
		return m, nil
	}
	return m, errors.Join(r.Register(m.fetches), r.Register(m.fetchedAt), r.Register(m.failing), r.Register(m.damaged))
}

func (m *Metrics) begin(td spiffeid.TrustDomain, fetchedAt time.Time) {
	if m == nil {
		return
	}
	for _, outcome := range []string{outcomeTaken, outcomeFailed} {
		m.fetches.WithLabelValues(td.Name(), outcome)
	}
	m.failing.WithLabelValues(td.Name())
	if fetchedAt.IsZero() {
		m.fetchedAt.WithLabelValues(td.Name()).Set(0)
	} else {
		m.fetchedAt.WithLabelValues(td.Name()).Set(float64(fetchedAt.Unix()))
	}
}

// damagedFile counts a file that was damaged.
func (m *Metrics) damagedFile() {
	if m != nil {
		m.damaged.Inc()
	}
}

func (m *Metrics) fetched(td spiffeid.TrustDomain, s Status) {
	if m == nil {
		return
	}
	if s.Err != nil {
		m.fetches.WithLabelValues(td.Name(), outcomeFailed).Inc()
		m.failing.WithLabelValues(td.Name()).Set(1)
		return
	}
	m.fetches.WithLabelValues(td.Name(), outcomeTaken).Inc()
	m.fetchedAt.WithLabelValues(td.Name()).Set(float64(s.FetchedAt.Unix()))
	m.failing.WithLabelValues(td.Name()).Set(0)
}

func (m *Metrics) end(td spiffeid.TrustDomain) {
	if m == nil {
		return
	}
	m.fetches.DeletePartialMatch(prometheus.Labels{"trust_domain": td.Name()})
	m.fetchedAt.DeleteLabelValues(td.Name())
	m.failing.DeleteLabelValues(td.Name())
}
