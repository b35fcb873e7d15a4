package federation

import (
	"errors"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	services      *prometheus.GaugeVec
	endpoints     prometheus.Gauge
	peers         *prometheus.GaugeVec
	gateways      *prometheus.GaugeVec
	epoch         prometheus.Gauge
	version       prometheus.Gauge
	tableServices prometheus.Gauge
	reportAge     *prometheus.GaugeVec
	exchangeAge   *prometheus.GaugeVec
	writable      prometheus.Gauge
	degraded      prometheus.Gauge
	work          prometheus.Histogram
	spend         spendMetrics
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{label})
	}
	m := &metrics{
		services:      vec("isthmus_federation_services", "Services that are known, by where they are: own, remote, both.", "origin"),
		endpoints:     gauge("isthmus_federation_endpoints", "Endpoints of the own cluster."),
		peers:         vec("isthmus_federation_peers", "Configured peers, by state: connecting, ok, control_lost, refused.", "state"),
		gateways:      vec("isthmus_federation_gateways", "Own gateways, by state: alive, silent.", "state"),
		epoch:         gauge("isthmus_federation_table_epoch", "Epoch of the current route table."),
		version:       gauge("isthmus_federation_table_version", "Version of the current route table within its epoch."),
		tableServices: gauge("isthmus_federation_table_services", "Services in the current route table."),
		reportAge:     vec("isthmus_federation_report_age_seconds", "Seconds since the last report of an own gateway.", "gateway"),
		exchangeAge:   vec("isthmus_federation_exchange_age_seconds", "Seconds since a peer's federation was heard.", "peer"),
		writable:      gauge("isthmus_federation_store_writable", "1 while the store takes writes."),
		degraded:      gauge("isthmus_federation_degraded", "What an operator must look at although everything is served; GET /readyz names it."),
		work: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "isthmus_federation_work_seconds",
			Help:    "Seconds that one round of merging, building and exporting takes.",
			Buckets: []float64{.0005, .002, .01, .05, .2, 1, 5},
		}),
	}
	m.spend = newSpendMetrics()
	var errs []error
	if reg != nil {
		for _, c := range []prometheus.Collector{
			m.services, m.endpoints, m.peers, m.gateways, m.epoch, m.version, m.tableServices,
			m.reportAge, m.exchangeAge, m.writable, m.degraded, m.work,
			m.spend.prices, m.spend.bad, m.spend.month, m.spend.estimate, m.spend.budget, m.spend.budgetSpent, m.spend.budgetEstimate, m.spend.state,
		} {
			errs = append(errs, reg.Register(c))
		}
	}
	return m, errors.Join(errs...)
}

func (m *metrics) table(t *route.Edition) {
	m.epoch.Set(float64(t.Head().Epoch))
	m.version.Set(float64(t.Head().Version))
	m.tableServices.Set(float64(len(t.Rows())))
}

func (m *metrics) catalog(c *census) {
	for _, o := range []origin{originOwn, originRemote, originBoth} {
		m.services.WithLabelValues(string(o)).Set(float64(c.origins[o]))
	}
	m.endpoints.Set(float64(c.endpoints))
}

// ages sets what changes by time alone. Series of peers and gateways that are
// gone go with them.
func (m *metrics) ages(p *plane, now time.Time) {
	m.reportAge.Reset()
	states := map[string]int{"alive": 0, "silent": 0}
	for _, h := range p.gateways.all() {
		m.reportAge.WithLabelValues(h.report.Gateway.Name).Set(now.Sub(h.at).Seconds())
		if h.alive(now) {
			states["alive"]++
		} else {
			states["silent"]++
		}
	}
	for s, n := range states {
		m.gateways.WithLabelValues(s).Set(float64(n))
	}
	m.exchangeAge.Reset()
	peers := map[resource.PeerState]int{
		resource.PeerConnecting: 0, resource.PeerOK: 0, resource.PeerControlLost: 0, resource.PeerRefused: 0,
	}
	for _, q := range p.peers.all() {
		st := q.importer.Status()
		peers[resource.PeerState(st.State)]++
		if !st.HeardAt.IsZero() {
			m.exchangeAge.WithLabelValues(string(q.name)).Set(now.Sub(st.HeardAt).Seconds())
		}
	}
	for s, n := range peers {
		m.peers.WithLabelValues(string(s)).Set(float64(n))
	}
	m.writable.Set(0)
	m.degraded.Set(float64(len(p.Degraded())))
	if p.store.Writable() == nil {
		m.writable.Set(1)
	}
}

func (m *metrics) forgetGateway(name string) { m.reportAge.DeleteLabelValues(name) }
