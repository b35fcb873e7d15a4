package account

import (
	"cmp"
	"slices"
	"sync"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// maxFlows bounds the flows that are counted apart: services times clusters.
const maxFlows = 20_000

// flowKey is what calls of this cluster's callers are counted by.
type flowKey struct {
	service catalog.ServiceName
	port    string
	cluster catalog.ClusterName // "" where nobody answered or was asked
}

// flows counts the calls of callers in this cluster by where they went.
type flows struct {
	mu     sync.Mutex
	counts map[flowKey]*route.Flow
}

// take counts an entry of a known service at its end.
func (f *flows) take(e *Entry) {
	k := flowKey{e.Service, e.Port, e.Cluster}
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.counts[k]
	if c == nil {
		if len(f.counts) >= maxFlows {
			return
		}
		if f.counts == nil {
			f.counts = make(map[flowKey]*route.Flow)
		}
		c = &route.Flow{Service: k.service, Port: k.port, Cluster: k.cluster}
		f.counts[k] = c
	}
	c.Calls++
	if e.failed() {
		c.Failed++
	}
	if e.answered >= 0 {
		c.Answered++
		c.AnsweredTotal += e.answered
	}
	c.Sent += uint64(max(e.Sent.Load(), 0))
	c.Received += uint64(max(e.Received.Load(), 0))
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
}

// Flows are the calls of callers in this cluster since the start, in order.
func (a *Account) Flows() []route.Flow {
	a.flows.mu.Lock()
	defer a.flows.mu.Unlock()
	out := make([]route.Flow, 0, len(a.flows.counts))
	for _, c := range a.flows.counts {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(x, y route.Flow) int {
		return cmp.Or(x.Service.Compare(y.Service), cmp.Compare(x.Port, y.Port), cmp.Compare(x.Cluster, y.Cluster))
	})
	return out
}
