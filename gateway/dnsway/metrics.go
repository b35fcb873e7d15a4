package dnsway

import (
	"fmt"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// Why a query gets no answer: a closed vocabulary.
const (
	droppedSource = "source_not_allowed"
	droppedRate   = "rate_limit"
	droppedBroken = "malformed"
)

// The kinds of names.
const (
	kindMesh    = "mesh"
	kindReverse = "reverse"
	kindForward = "forwarded"
	kindRefused = "refused"
)

type metrics struct {
	queries  *prometheus.CounterVec
	dropped  *prometheus.CounterVec
	cut      prometheus.Counter
	failures prometheus.Counter
	forwards *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer, w *Way) (*metrics, error) {
	gauge := func(name, help string, value func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value()) })
	}
	m := &metrics{
		queries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_gateway_dns_queries_total", Help: "Queries that were answered, by the kind of name (mesh, reverse, forwarded, refused) and by the answer's code.",
		}, []string{"kind", "rcode"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_gateway_dns_dropped_total", Help: "Queries that got no answer, or only that they are to be asked by TCP, by why: source_not_allowed, rate_limit, malformed.",
		}, []string{"reason"}),
		cut: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_gateway_dns_truncated_total", Help: "Answers that did not fit into UDP.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_gateway_virtual_failures_total", Help: "Services that got no virtual address or could not be listened for, each time they were asked for.",
		}),
		forwards: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_gateway_dns_forwards_total", Help: "Queries that other resolvers were asked, by result: answered, failed, overloaded.",
		}, []string{"result"}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		m.queries, m.dropped, m.cut, m.failures, m.forwards,
		gauge("isthmus_gateway_virtual_addresses", "Virtual addresses that are assigned.", func() int { n, _ := w.o.Book.Size(); return n }),
		gauge("isthmus_gateway_virtual_addresses_max", "Virtual addresses of the range.", func() int { _, n := w.o.Book.Size(); return n }),
		gauge("isthmus_gateway_virtual_listeners", "Virtual addresses and ports that are listened on.", w.o.Hub.Sockets),
	} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("dns metrics: %w", err)
		}
	}
	return m, nil
}

// count counts an answer. Codes that nobody gives are one.
func (m *metrics) count(kind string, rcode int) {
	code, known := dns.RcodeToString[rcode]
	if !known {
		code = "OTHER"
	}
	m.queries.WithLabelValues(kind, code).Inc()
}
