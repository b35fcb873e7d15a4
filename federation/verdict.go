package federation

import (
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// verdicts are what the gateways' data paths say of the own endpoints.
type verdicts map[route.EndpointKey][]resource.EndpointVerdict

// newVerdicts gathers fresh reports, in the order of the gateways' names.
func newVerdicts(reports []heard) verdicts {
	v := make(verdicts)
	for _, h := range reports {
		for i := range h.report.Endpoints {
			if e := &h.report.Endpoints[i]; e.Known {
				v[e.Endpoint] = append(v[e.Endpoint], resource.EndpointVerdict{
					Gateway: h.report.Gateway.Name, Healthy: e.Healthy, Reason: e.Reason, Since: e.Since,
				})
			}
		}
	}
	return v
}

func (v verdicts) of(service catalog.ServiceName, e *catalog.Endpoint) []resource.EndpointVerdict {
	return v[route.EndpointKey{Service: service, Port: e.Port, ID: e.ID}]
}

// down: at least one gateway has looked, and none finds it healthy.
func (v verdicts) down(service catalog.ServiceName, e *catalog.Endpoint) bool {
	all := v.of(service, e)
	for _, x := range all {
		if x.Healthy {
			return false
		}
	}
	return len(all) > 0
}

// ready is what is counted as ready: what the source calls out is out, and so is
// what no gateway can use.
func (v verdicts) ready(service catalog.ServiceName, e *catalog.Endpoint) bool {
	return e.Health.Usable() && !v.down(service, e)
}
