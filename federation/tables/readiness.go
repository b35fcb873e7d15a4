package tables

import (
	"cmp"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// Readiness is what the data path says of the own endpoints: which of them no
// gateway can use. nil knows nothing. It is immutable.
type Readiness struct {
	down map[catalog.ServiceName][]instance // sorted
}

// instance is one endpoint within its service.
type instance struct{ port, id string }

func (i instance) compare(o instance) int {
	return cmp.Or(cmp.Compare(i.id, o.id), cmp.Compare(i.port, o.port))
}

// NewReadiness gathers the evidence of the own gateways' reports. The caller
// passes fresh reports only: what a silent gateway saw last is no evidence. An
// endpoint is down where at least one gateway has evidence of it and none finds
// it healthy: one gateway that has lost its network must not speak for the
// others.
func NewReadiness(reports []*route.Report) *Readiness {
	healthy := make(map[route.EndpointKey]bool)
	for _, r := range reports {
		for i := range r.Endpoints {
			if e := &r.Endpoints[i]; e.Known {
				healthy[e.Endpoint] = healthy[e.Endpoint] || e.Healthy
			}
		}
	}
	out := &Readiness{down: make(map[catalog.ServiceName][]instance)}
	for key, ok := range healthy {
		if !ok {
			out.down[key.Service] = append(out.down[key.Service], instance{key.Port, key.ID})
		}
	}
	for _, list := range out.down {
		slices.SortFunc(list, instance.compare)
	}
	return out
}

// of are the instances of a service that are down.
func (r *Readiness) of(service catalog.ServiceName) []instance {
	if r == nil {
		return nil
	}
	return r.down[service]
}

// differs are the services of which both say something else, in any order.
func (r *Readiness) differs(o *Readiness) (names []catalog.ServiceName) {
	for _, pair := range [][2]*Readiness{{r, o}, {o, r}} {
		if pair[0] == nil {
			continue
		}
		for n, down := range pair[0].down {
			if !slices.Equal(down, pair[1].of(n)) {
				names = append(names, n)
			}
		}
	}
	return names
}

// Equal reports whether both say the same.
func (r *Readiness) Equal(o *Readiness) bool { return r == o || len(r.differs(o)) == 0 }

func isDown(down []instance, e *catalog.Endpoint) bool {
	if len(down) == 0 {
		return false
	}
	_, found := slices.BinarySearchFunc(down, instance{e.Port, e.ID}, instance.compare)
	return found
}
