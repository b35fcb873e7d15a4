package federation

import (
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/route"
)

const (
	// demandStep is the least time between two remembered counts of one gateway,
	// demandSteps how many are remembered: demand is that of the last minute.
	demandStep  = 10 * time.Second
	demandSteps = 7
)

// demand remembers what gateways countedFlows, for what is asked of their services now.
type demand struct {
	mu   sync.Mutex
	seen map[string][]countedFlows // by gateway, the oldest first
}

type countedFlows struct {
	at      time.Time // by our own clock
	started time.Time // of the gateway
	flows   []route.Flow
	askers  []route.Asker
}

// take remembers a report's counts, if the last ones are old enough.
func (d *demand) take(r *route.Report, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name := r.Gateway.Name
	list := d.seen[name]
	if n := len(list); n > 0 {
		last := list[n-1]
		switch {
		case !last.started.Equal(r.StartedAt):
			list = nil // it counts anew
		case now.Sub(last.at) < demandStep:
			return
		}
	}
	if d.seen == nil {
		d.seen = make(map[string][]countedFlows)
	}
	if len(list) >= demandSteps {
		list = list[1:]
	}
	d.seen[name] = append(list, countedFlows{at: now, started: r.StartedAt, flows: r.Flows, askers: r.Askers})
}

// forget drops a gateway that left.
func (d *demand) forget(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.seen, name)
}

// of is what a gateway's callers asked for since its oldest remembered count, who they
// were, and how long that is.
func (d *demand) of(h heard) ([]route.Flow, []route.Asker, time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := d.seen[h.report.Gateway.Name]
	if len(list) == 0 || !list[0].started.Equal(h.report.StartedAt) {
		return h.report.Flows, h.report.Askers, max(h.report.At.Sub(h.report.StartedAt), time.Second)
	}
	type key struct {
		service, port, cluster string
	}
	keyOf := func(f route.Flow) key { return key{f.Service.String(), f.Port, string(f.Cluster)} }
	before := make(map[key]route.Flow, len(list[0].flows))
	for _, f := range list[0].flows {
		before[keyOf(f)] = f
	}
	var out []route.Flow
	for _, f := range h.report.Flows {
		if f = f.Since(before[keyOf(f)]); f.Calls > 0 {
			out = append(out, f)
		}
	}
	return out, askersSince(h.report.Askers, list[0].askers), max(h.at.Sub(list[0].at), time.Second)
}

// askersSince are the calls of who asked after an earlier count.
func askersSince(now, before []route.Asker) (out []route.Asker) {
	counted := make(map[route.Asker]uint64, len(before))
	for _, a := range before {
		n := a.Calls
		a.Calls = 0
		counted[a] = n
	}
	for _, a := range now {
		key := a
		key.Calls = 0
		if n := counted[key]; n <= a.Calls {
			a.Calls -= n
		}
		if a.Calls > 0 {
			out = append(out, a)
		}
	}
	return out
}
