package account

import (
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/prometheus/client_golang/prometheus"
)

// Counters are where the bytes of the entry are counted as they move.
func (e *Entry) Counters() (sent, received *Bytes) {
	return &Bytes{entry: e, moved: &e.Sent, onPath: &e.pathSent, direction: "sent"},
		&Bytes{entry: e, moved: &e.Received, onPath: &e.pathReceived, direction: "received"}
}

// Bytes counts payload of one direction of an entry.
type Bytes struct {
	entry         *Entry
	moved, onPath *atomic.Int64
	direction     string
	counter       prometheus.Counter
}

// Add counts n bytes. It is used by one goroutine at a time.
func (b *Bytes) Add(n float64) {
	b.moved.Add(int64(n))
	if b.counter == nil {
		// Looked up once: a connection counts many times. Of a service that leaves
		// the table meanwhile, the rest is counted into a series that is gone.
		b.counter = b.entry.account.bytes(b.entry, b.direction)
	}
	b.counter.Add(n)
	if p := b.entry.path.Load(); p != nil {
		rest := b.moved.Load() - b.onPath.Load() // what moved before the path was known comes along
		b.onPath.Add(rest)
		p.carry(b.direction == "sent", rest)
	}
}

// path is where the bytes of an entry go, and what they cost there.
type path struct {
	flow  *flow
	price route.Price
}

// Serve says which cluster serves the entry, at what price, so that its bytes are
// counted as they move: a connection may last for days. Another attempt says it anew.
func (e *Entry) Serve(cluster catalog.ClusterName, price route.Price) {
	if !e.counts() {
		return
	}
	if f := e.account.flows.of(flowKey{e.Service, e.Port, cluster}); f != nil {
		e.path.Store(&path{f, price})
	}
}

// counts reports whether the entry is a call of a caller in this cluster to a service
// that is known.
func (e *Entry) counts() bool {
	own := e.Way == WayHTTP || e.Way == WayTCP || e.Way == WayMTLS || e.Way == WaySNI || e.Way == WayProxy || e.Way == WayUDP
	return own && !e.Service.IsFederation() && e.account.label(e.Service) != unknownService
}

// pico is a part of a dollar that a byte's price is a number of: a GB for a dollar is
// 1,000 of it a byte, and 64 bits hold 18 million dollars.
const pico = 1e12

// carry counts bytes of one direction.
func (p *path) carry(out bool, n int64) {
	if n <= 0 {
		return
	}
	bytes, spent, perGB := &p.flow.received, &p.flow.spentIn, p.price.In
	if out {
		bytes, spent, perGB = &p.flow.sent, &p.flow.spentOut, p.price.Out
	}
	bytes.Add(uint64(n))
	spent.Add(uint64(float64(n)*perGB*(pico/1e9) + 0.5))
	if !p.price.Known {
		p.flow.unpriced.Add(uint64(n))
	}
}
