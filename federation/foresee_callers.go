package federation

import (
	"cmp"
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/merge"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// foreseeCallers adds the callers seen in the last window that other intentions would
// judge differently, and the services whose default would change; a window of 0 is the
// longest.
func (p *plane) foreseeCallers(would *resource.Impact, view *merge.View, before, after []policy.Intention, window time.Duration) {
	window = cmp.Or(min(window, callersWindow), callersWindow)
	found := intentionImpact(before, after, p.sightings.Since(p.now(), window), hostedIn(view))
	for i := range found.Callers {
		found.Callers[i].Cluster = cmp.Or(found.Callers[i].Cluster, p.opts.Cluster) // gateways name no cluster for their own
	}
	would.Callers, would.CallersTotal = found.Callers, found.CallersTotal
	room := max(0, resource.MaxImpact-len(would.Services))
	would.Truncated = would.Truncated || found.Truncated || len(found.Services) > room
	would.Services = append(would.Services, found.Services[:min(room, len(found.Services))]...)
	would.ServicesTotal += found.ServicesTotal
	would.Unknown = append(would.Unknown, found.Unknown...)
	if n := p.sightings.Dropped(); n > 0 {
		would.Unknown = append(would.Unknown, fmt.Sprintf("callers: %d calls were not kept since the start, there were more callers than fit", n))
	}
}

// hostedIn are the services of the own cluster.
func hostedIn(view *merge.View) []hostedService {
	var hosted []hostedService
	for s := range view.All() {
		if s.Local == nil {
			continue
		}
		h := hostedService{name: s.Name, carriesHTTP: len(s.Ports) > 0}
		for _, port := range s.Ports {
			h.carriesHTTP = h.carriesHTTP && (port.Protocol == catalog.HTTP || port.Protocol == catalog.GRPC)
		}
		hosted = append(hosted, h)
	}
	return hosted
}
