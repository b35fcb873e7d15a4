package federation

import (
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

// verdicts are what the gateways' data paths say of the own endpoints.
type verdicts map[catalog.ServiceName]serviceVerdicts

// serviceVerdicts are those of one service.
type serviceVerdicts map[instance][]resource.EndpointVerdict

// instance is one endpoint within its service.
type instance struct{ port, id string }

// newVerdicts gathers fresh reports, in the order of the gateways' names.
func newVerdicts(reports []heard) verdicts {
	v := make(verdicts)
	for _, h := range reports {
		for i := range h.report.Endpoints {
			e := &h.report.Endpoints[i]
			if !e.Known {
				continue
			}
			of := v[e.Endpoint.Service]
			if of == nil {
				of = make(serviceVerdicts)
				v[e.Endpoint.Service] = of
			}
			at := instance{e.Endpoint.Port, e.Endpoint.ID}
			of[at] = append(of[at], resource.EndpointVerdict{
				Gateway: h.report.Gateway.Name, Healthy: e.Healthy, Reason: e.Reason, Since: e.Since,
			})
		}
	}
	return v
}

// differ are the services of which both say something else.
func (v verdicts) differ(o verdicts) (names []catalog.ServiceName) {
	for n, of := range v {
		if !maps.EqualFunc(of, o[n], slices.Equal) {
			names = append(names, n)
		}
	}
	for n := range o {
		if v[n] == nil {
			names = append(names, n)
		}
	}
	return names
}

func (v serviceVerdicts) of(e *catalog.Endpoint) []resource.EndpointVerdict {
	return v[instance{e.Port, e.ID}]
}

// down: at least one gateway has looked, and none finds it healthy.
func (v serviceVerdicts) down(e *catalog.Endpoint) bool {
	all := v.of(e)
	for _, x := range all {
		if x.Healthy {
			return false
		}
	}
	return len(all) > 0
}

// ready is what is counted as ready: what the source calls out is out, and so is
// what no gateway can use.
func (v serviceVerdicts) ready(e *catalog.Endpoint) bool {
	return e.Health.Usable() && (len(v) == 0 || !v.down(e))
}
