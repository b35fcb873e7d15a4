package federation

import (
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

const (
	// callersWindow is how far back callers are remembered.
	callersWindow = resource.MaxCallersWindow
	// maxCallers bounds those of all gateways together, about 16 MB.
	maxCallers = 4 * route.MaxSightings
	// maxReportedCallers bounds those of one report.
	maxReportedCallers = 2 * route.MaxReportedSightings
)

// takeCallers counts what a gateway has seen. By our own clock: the gateway's may say
// anything, but how long ago it was is the same by both.
func (p *plane) takeCallers(r *route.Report) {
	now := p.now()
	for i, s := range r.Callers {
		if i == maxReportedCallers {
			break
		}
		age := min(max(0, r.At.Sub(s.LastSeen)), callersWindow)
		s.LastSeen = now.Add(-age)
		p.sightings.Add(s)
	}
	r.Callers = nil // the report is kept, they are counted
}

// Callers lists who was seen to call what in the last d.
func (p *plane) Callers(service catalog.ServiceName, d time.Duration) resource.Callers {
	out := resource.Callers{Window: d, Dropped: p.sightings.Dropped()}
	for _, s := range p.sightings.Since(p.now(), d) {
		if service.IsZero() || s.Service == service {
			out.Items = append(out.Items, s)
		}
	}
	return out
}
