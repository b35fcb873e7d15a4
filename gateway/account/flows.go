package account

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/prometheus/client_golang/prometheus"
)

// maxFlows bounds the flows that are counted apart: services times clusters.
const maxFlows = 20_000

// flowKey is what calls of this cluster's callers are counted by.
type flowKey struct {
	service catalog.ServiceName
	port    string
	cluster catalog.ClusterName // "" where nobody answered or was asked
}

// flow is what is counted of them. Bytes move while others count calls.
type flow struct {
	calls, failed, answered uint64
	answeredTotal           time.Duration

	sent, received, spentOut, spentIn, unpriced atomic.Uint64
}

// flows counts the calls of callers in this cluster by where they went.
type flows struct {
	mu     sync.Mutex
	counts map[flowKey]*flow
	askers map[askerKey]uint64
}

// of is where calls of one kind are counted; nil where there are too many kinds.
func (f *flows) of(k flowKey) *flow {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.get(k)
}

func (f *flows) get(k flowKey) *flow {
	c := f.counts[k]
	if c != nil || len(f.counts) >= maxFlows {
		return c
	}
	if f.counts == nil {
		f.counts = make(map[flowKey]*flow)
	}
	c = new(flow)
	f.counts[k] = c
	return c
}

// take counts an entry of a known service at its end.
func (f *flows) take(e *Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ask(e)
	c := f.get(flowKey{e.Service, e.Port, e.Cluster})
	if c == nil {
		return
	}
	c.calls++
	if e.failed() {
		c.failed++
	}
	if e.answered >= 0 {
		c.answered++
		c.answeredTotal += e.answered
	}
	at := e.path.Load()
	if at == nil {
		at = &path{flow: c} // nobody served it: what moved cost nothing that is known of
	}
	at.carry(true, e.Sent.Load()-e.pathSent.Load())
	at.carry(false, e.Received.Load()-e.pathReceived.Load())
}

// failed reports whether an entry ended otherwise than its caller could wish, by no
// doing of the caller's.
func (e *Entry) failed() bool {
	return e.Reason != ReasonOK && e.Reason != reasonCanceled || e.Status >= 500
}

// reasonCanceled is that of a caller that went away.
const reasonCanceled = "canceled"

// retire forgets the flows of a service.
func (f *flows) retire(keep map[catalog.ServiceName]bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for k := range f.counts {
		if !keep[k.service] {
			delete(f.counts, k)
		}
	}
	for k := range f.askers {
		if !keep[k.service] {
			delete(f.askers, k)
		}
	}
}

// Flows are the calls of callers in this cluster since the start, in order.
func (a *Account) Flows() []route.Flow {
	a.flows.mu.Lock()
	defer a.flows.mu.Unlock()
	out := make([]route.Flow, 0, len(a.flows.counts))
	for k, c := range a.flows.counts {
		out = append(out, route.Flow{
			Service: k.service, Port: k.port, Cluster: k.cluster,
			Calls: c.calls, Failed: c.failed, Answered: c.answered, AnsweredTotal: c.answeredTotal,
			Sent: c.sent.Load(), Received: c.received.Load(),
			SpentOut: float64(c.spentOut.Load()) / pico, SpentIn: float64(c.spentIn.Load()) / pico, Unpriced: c.unpriced.Load(),
		})
	}
	slices.SortFunc(out, func(x, y route.Flow) int {
		return cmp.Or(x.Service.Compare(y.Service), cmp.Compare(x.Port, y.Port), cmp.Compare(x.Cluster, y.Cluster))
	})
	return out
}

var (
	pathBytes = prometheus.NewDesc("isthmus_gateway_path_bytes_total",
		"Payload of this cluster's callers by the cluster that serves them, counted as it moves: sent is from the caller to the service.",
		[]string{"service", "cluster", "direction"}, nil)
	pathDollars = prometheus.NewDesc("isthmus_gateway_spend_dollars_total",
		"What that payload is estimated to cost by the price book, in dollars; paths without a price cost 0.",
		[]string{"service", "cluster", "direction"}, nil)
	pathUnpriced = prometheus.NewDesc("isthmus_gateway_unpriced_bytes_total",
		"Payload of paths of which the price book has no price.", []string{"service", "cluster"}, nil)
)

// Describe implements prometheus.Collector.
func (f *flows) Describe(ch chan<- *prometheus.Desc) {
	ch <- pathBytes
	ch <- pathDollars
	ch <- pathUnpriced
}

// Collect implements prometheus.Collector: the ports of a service are one series.
func (f *flows) Collect(ch chan<- prometheus.Metric) {
	type seriesKey struct {
		service catalog.ServiceName
		cluster catalog.ClusterName
	}
	sums := make(map[seriesKey]*[5]uint64)
	f.mu.Lock()
	for k, c := range f.counts {
		if k.cluster == "" {
			continue
		}
		sum := sums[seriesKey{k.service, k.cluster}]
		if sum == nil {
			sum = new([5]uint64)
			sums[seriesKey{k.service, k.cluster}] = sum
		}
		for i, n := range []*atomic.Uint64{&c.sent, &c.received, &c.spentOut, &c.spentIn, &c.unpriced} {
			sum[i] += n.Load()
		}
	}
	f.mu.Unlock()
	for k, sum := range sums {
		send := func(d *prometheus.Desc, v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, append([]string{k.service.String(), string(k.cluster)}, labels...)...)
		}
		send(pathBytes, float64(sum[0]), "sent")
		send(pathBytes, float64(sum[1]), "received")
		send(pathDollars, float64(sum[2])/pico, "sent")
		send(pathDollars, float64(sum[3])/pico, "received")
		send(pathUnpriced, float64(sum[4]))
	}
}
