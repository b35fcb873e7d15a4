package flow

import (
	"fmt"
	"maps"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/gateway/flow/breaker"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are counted as calls come; the gauges are read when they are asked for.
type metrics struct {
	calls          *prometheus.CounterVec
	queueRefused   *prometheus.CounterVec
	breakerRefused *prometheus.CounterVec
	overloads      *prometheus.CounterVec
	wait           *prometheus.HistogramVec

	limit, inProgress, waiting, share, underWay *prometheus.GaugeVec
	refresh                                     func()
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_gateway_rate_calls_total", Help: "Calls that a rate of a traffic policy matched, by whether it had room for them (admitted) or not (refused).",
		}, []string{"service", "rate", "result"}),
		queueRefused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_gateway_queue_refusals_total", Help: "Requests that got no place at the own endpoints of a service, by why.",
		}, []string{"service", "reason"}),
		breakerRefused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_gateway_breaker_refusals_total", Help: "Attempts that a circuit breaker refused, by the bound that was reached.",
		}, []string{"service", "cluster", "bound"}),
		overloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_gateway_overloads_total", Help: "Limits that were set by default on a service whose callers gave up (begun), taken back when it had room again (ended), or because they changed nothing (futile).",
		}, []string{"service", "event"}),
		wait: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "isthmus_gateway_queue_wait_seconds", Help: "How long requests waited for a place at the own endpoints of a service, of those that got one.",
			Buckets: []float64{.0005, .001, .005, .01, .02, .05, .1, .2, .5, 1},
		}, []string{"service"}),
		limit: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_gateway_concurrency_limit", Help: "Requests that may be in progress at the own endpoints of a service.",
		}, []string{"service"}),
		inProgress: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_gateway_concurrency_in_progress", Help: "Requests that are, of those that the limit counts.",
		}, []string{"service"}),
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_gateway_queue_waiting", Help: "Requests that wait for a place at the own endpoints of a service.",
		}, []string{"service"}),
		share: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_gateway_rate_share", Help: "Part of a rate's budget that this gateway may use, of rates that have one budget for the cluster.",
		}, []string{"service", "rate"}),
		underWay: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_gateway_breaker_under_way", Help: "What a circuit breaker counts as under way to a cluster, by bound.",
		}, []string{"service", "cluster", "bound"}),
		refresh: func() {},
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.calls, m.queueRefused, m.breakerRefused, m.overloads, m.wait, &gauges{m}} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("flow metrics: %w", err)
		}
	}
	return m, nil
}

// gauges collects what is read on demand.
type gauges struct{ m *metrics }

func (g *gauges) all() []*prometheus.GaugeVec {
	return []*prometheus.GaugeVec{g.m.limit, g.m.inProgress, g.m.waiting, g.m.share, g.m.underWay}
}

// Describe implements prometheus.Collector.
func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, v := range g.all() {
		v.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	for _, v := range g.all() {
		v.Reset()
	}
	g.m.refresh()
	for _, v := range g.all() {
		v.Collect(ch)
	}
}

// refresh sets the gauges to what is.
func (c *Controller) refresh() {
	now := time.Now().UnixNano()
	c.guarding.RLock()
	guards := maps.Clone(c.guards)
	c.guarding.RUnlock()
	for name, s := range guards {
		service, status := name.String(), s.gate.Status()
		c.metrics.inProgress.WithLabelValues(service).Set(float64(status.InProgress))
		if s.guarded.holds.Load() {
			c.metrics.limit.WithLabelValues(service).Set(float64(status.Limit))
			c.metrics.waiting.WithLabelValues(service).Set(float64(status.Waiting))
		}
	}
	for name, s := range *c.services.Load() {
		service := name.String()
		if s.slots != nil {
			status := s.slots.gate.Status()
			c.metrics.limit.WithLabelValues(service).Set(float64(status.Limit))
			c.metrics.inProgress.WithLabelValues(service).Set(float64(status.InProgress))
			c.metrics.waiting.WithLabelValues(service).Set(float64(status.Waiting))
		}
		for _, r := range s.rates {
			if r.rule.Scope != policy.PerCluster || len(r.rule.Per) > 0 {
				continue
			}
			r.mu.RLock()
			e := r.entries[entryKey{}]
			r.mu.RUnlock()
			part := c.shares.even()
			if e != nil {
				part = c.shares.part(e.lease.Load(), now)
			}
			c.metrics.share.WithLabelValues(service, r.rule.Name).Set(part)
		}
		if s.breaks == nil {
			continue
		}
		s.breaks.mu.RLock()
		cells := maps.Clone(s.breaks.byCluster)
		s.breaks.mu.RUnlock()
		for cluster, cell := range cells {
			for _, k := range breaker.Kinds() {
				c.metrics.underWay.WithLabelValues(service, string(cluster), k.String()).Set(float64(cell.Count(k)))
			}
		}
	}
}

// retire drops the series of a service that has no limits any more.
func (m *metrics) retire(s *service) {
	labels := prometheus.Labels{"service": s.name.String()}
	m.calls.DeletePartialMatch(labels)
	m.queueRefused.DeletePartialMatch(labels)
	m.breakerRefused.DeletePartialMatch(labels)
	m.wait.DeletePartialMatch(labels)
}

// retireGuard drops the series of a guard; limits are those that its service has now.
func (m *metrics) retireGuard(name catalog.ServiceName, limits *service) {
	labels := prometheus.Labels{"service": name.String()}
	m.overloads.DeletePartialMatch(labels)
	if limits == nil || limits.slots == nil {
		m.queueRefused.DeletePartialMatch(labels)
		m.wait.DeletePartialMatch(labels)
	}
}

// retireRates drops the series of rates that a service has no longer.
func (m *metrics) retireRates(old, next *service) {
	for _, was := range old.rates {
		gone := true
		for _, is := range next.rates {
			gone = gone && is.rule.Name != was.rule.Name
		}
		if gone {
			m.calls.DeletePartialMatch(prometheus.Labels{"service": old.name.String(), "rate": was.rule.Name})
		}
	}
}
