package identity

import (
	"errors"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// metrics are the instruments of one Source. Trust domains are the only label
// that is not a constant; their number is bounded by maxTrustDomains, and series
// go with their domain.
type metrics struct {
	notAfter      prometheus.Gauge
	overdue       prometheus.Gauge
	failing       prometheus.Gauge
	lastSuccess   prometheus.Gauge
	updates       *prometheus.CounterVec
	refused       *prometheus.CounterVec
	watchErrors   prometheus.Counter
	cacheErrors   prometheus.Counter
	bundleUpdated *prometheus.GaugeVec
	bundleSeq     *prometheus.GaugeVec
	bundleSize    *prometheus.GaugeVec

	mu    sync.Mutex
	known map[spiffeid.TrustDomain]struct{}
}

// Outcomes of an offered update, the label of isthmus_identity_updates_total.
const (
	outcomeApplied   = "applied"
	outcomeUnchanged = "unchanged"
	outcomeRefused   = "refused"
)

func newMetrics() *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "isthmus_identity_" + name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "isthmus_identity_" + name, Help: help})
	}
	perDomain := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "isthmus_identity_" + name, Help: help}, []string{"trust_domain"})
	}
	m := &metrics{
		notAfter:    gauge("svid_not_after_seconds", "Unix time at which the own SVID expires; 0 when there is none."),
		overdue:     gauge("svid_renewal_overdue", "1 when the SVID's renewal is overdue, else 0."),
		failing:     gauge("source_failing", "1 while the Workload API or the files give nothing that is acceptable, else 0."),
		lastSuccess: gauge("last_success_seconds", "Unix time of the last update from the Workload API or the files that was accepted."),
		updates: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_identity_updates_total",
			Help: "Updates offered, by who offered them (workload_api, files, feed, peer) and what became of them.",
		}, []string{"origin", "outcome"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_identity_refused_total",
			Help: "Handshakes and proofs on live links refused, by reason.",
		}, []string{"reason"}),
		watchErrors:   counter("workload_api_errors_total", "Failed or broken watches of the Workload API."),
		cacheErrors:   counter("cache_errors_total", "Cache files refused and cache files that could not be written."),
		bundleUpdated: perDomain("bundle_updated_seconds", "Unix time at which the trust domain's bundle last changed."),
		bundleSeq:     perDomain("bundle_sequence", "Sequence number of the trust domain's bundle."),
		bundleSize:    perDomain("bundle_authorities", "X.509 authorities in the trust domain's bundle."),
		known:         make(map[spiffeid.TrustDomain]struct{}),
	}
	for _, reason := range Reasons() {
		m.refused.WithLabelValues(string(reason))
	}
	for _, origin := range []Origin{OriginWorkloadAPI, OriginFiles, OriginFeed, OriginPeer} {
		for _, outcome := range []string{outcomeApplied, outcomeUnchanged, outcomeRefused} {
			m.updates.WithLabelValues(string(origin), outcome)
		}
	}
	return m
}

func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.notAfter, m.overdue, m.failing, m.lastSuccess, m.updates, m.refused, m.watchErrors,
		m.cacheErrors, m.bundleUpdated, m.bundleSeq, m.bundleSize,
	} {
		errs = append(errs, r.Register(c))
	}
	return errors.Join(errs...)
}

func (m *metrics) offered(origin Origin, outcome string) {
	m.updates.WithLabelValues(string(origin), outcome).Inc()
}

// observe sets what can be read off a state, and drops the series of domains that
// are gone.
func (m *metrics) observe(st *state) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if st.svid != nil {
		m.notAfter.Set(float64(st.notAfter().Unix()))
	}
	now := make(map[spiffeid.TrustDomain]struct{})
	for _, b := range st.effective() {
		td := b.domain.Name()
		now[b.domain] = struct{}{}
		m.bundleUpdated.WithLabelValues(td).Set(float64(b.updated.Unix()))
		m.bundleSeq.WithLabelValues(td).Set(float64(b.sequence))
		m.bundleSize.WithLabelValues(td).Set(float64(len(b.authorities)))
	}
	for td := range m.known {
		if _, ok := now[td]; !ok {
			m.bundleUpdated.DeleteLabelValues(td.Name())
			m.bundleSeq.DeleteLabelValues(td.Name())
			m.bundleSize.DeleteLabelValues(td.Name())
		}
	}
	m.known = now
}
