package board

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

const (
	// reportLife is how long a far gateway's word counts: five reports.
	reportLife = 5 * time.Second
	// maxReporters bounds the gateways of one cluster whose reports are kept.
	maxReporters = 64
)

// farReport is what one gateway of another cluster said of its endpoints.
type farReport struct {
	at    time.Time
	ready map[farService]readiness
}

type farService struct{ service, port string }

type readiness struct{ ready, total uint32 }

// TakeReport takes the load report of a far gateway. What it says of services
// that this cluster does not import from it is not kept.
func (b *Board) TakeReport(cluster catalog.ClusterName, gateway string, r wire.Report) {
	ix := b.index.Load()
	if ix == nil {
		return
	}
	report := farReport{at: b.o.Now(), ready: make(map[farService]readiness)}
	for _, s := range r.Services {
		if len(ix.imports[remoteName{cluster, s.Service}]) > 0 {
			report.ready[farService{s.Service, s.Port}] = readiness{min(s.Ready, s.Total), s.Total}
		}
	}
	b.mu.Lock()
	byGateway := b.reports[cluster]
	if byGateway == nil {
		byGateway = make(map[string]farReport)
		b.reports[cluster] = byGateway
	}
	old, had := byGateway[gateway]
	if had || len(byGateway) < maxReporters {
		byGateway[gateway] = report
	}
	changed := !had || !sameReadiness(old.ready, report.ready)
	if changed {
		b.explainLosses(ix, cluster, old, report)
	}
	b.mu.Unlock()
	if changed {
		b.Touch()
	}
}

// explainLosses explains the failures of a cluster's services that have fewer ready
// endpoints than a report ago. b.mu is held.
func (b *Board) explainLosses(ix *index, cluster catalog.ClusterName, old, report farReport) {
	for k, is := range report.ready {
		if is.ready >= old.ready[k].ready {
			continue
		}
		for _, name := range ix.imports[remoteName{cluster, k.service}] {
			b.explain(portKey{name, k.port}, report.at)
		}
	}
}

func sameReadiness(a, b map[farService]readiness) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

// reported is the freshest word on a service of a cluster: the best of what its
// gateways say now, since one that cannot reach the endpoints speaks of itself.
// b.mu is held.
func (b *Board) reported(cluster catalog.ClusterName, name farService, now time.Time) (r readiness, at time.Time, ok bool) {
	for gateway, report := range b.reports[cluster] {
		if now.Sub(report.at) > reportLife {
			delete(b.reports[cluster], gateway)
			continue
		}
		said, has := report.ready[name]
		if !has {
			continue
		}
		if !ok || said.ready > r.ready || (said.ready == r.ready && said.total > r.total) {
			r = said
		}
		if report.at.After(at) {
			at = report.at
		}
		ok = true
	}
	return r, at, ok
}

// OwnReport is what this gateway tells the peers: for each port of the exported
// services that allow says yes to, how many endpoints are ready.
func (b *Board) OwnReport(allow func(exportedTo []catalog.ClusterName) bool) wire.Report {
	plan, ix := b.Plan(), b.index.Load()
	if plan == nil || ix == nil {
		return wire.Report{}
	}
	var r wire.Report
	for own := range plan.Readiness() {
		if !allow(ix.exported[own.Target.Service]) {
			continue
		}
		r.Services = append(r.Services, wire.ServiceReport{
			Service: own.Target.Service.String(), Port: own.Target.Port, Ready: own.Ready, Total: own.Total,
			InFlight: uint32(min(max(0, b.live.Target(own.Target).InFlight()), math.MaxUint32)),
		})
		if len(r.Services) == wire.MaxReportServices {
			break
		}
	}
	slices.SortFunc(r.Services, func(a, b wire.ServiceReport) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Port, b.Port))
	})
	return r
}
