package account

import (
	"cmp"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// askerKey is what calls are counted by to tell who would lose them.
type askerKey struct {
	service  catalog.ServiceName
	port     string
	caller   string
	priority route.Priority
}

// ask counts who made a call, under the lock of flows. Where there are more callers
// than are told apart, theirs are counted together.
func (f *flows) ask(e *Entry) {
	if e.Sequence == nil {
		return // refused before it could be asked where it would go
	}
	k := askerKey{e.Service, e.Port, e.Caller, e.Sequence.Priority()}
	if f.askers == nil {
		f.askers = make(map[askerKey]uint64)
	}
	if _, known := f.askers[k]; !known && len(f.askers) >= route.MaxAskers {
		if k.caller = ""; len(f.askers) >= 2*route.MaxAskers {
			return
		}
	}
	f.askers[k]++
}

// Askers are who made the calls of Flows, in order.
func (a *Account) Askers() []route.Asker {
	a.flows.mu.Lock()
	defer a.flows.mu.Unlock()
	out := make([]route.Asker, 0, len(a.flows.askers))
	for k, n := range a.flows.askers {
		out = append(out, route.Asker{Service: k.service, Port: k.port, Caller: k.caller, Priority: k.priority, Calls: n})
	}
	slices.SortFunc(out, func(x, y route.Asker) int {
		return cmp.Or(x.Service.Compare(y.Service), cmp.Compare(x.Port, y.Port), cmp.Compare(x.Caller, y.Caller), cmp.Compare(x.Priority, y.Priority))
	})
	return out
}
