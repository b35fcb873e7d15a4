package board

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// farDelays is what one gateway of another cluster said of how its endpoints answer.
type farDelays struct {
	at time.Time
	of map[farService]farDelay
	// out are the zones that it leaves out.
	out map[farService][]string
}

type farDelay struct {
	processing time.Duration
	// others are the calls in progress there that are not this gateway's: a mean over
	// the last words, since one moment's count says little of the next second.
	others float64
}

// othersPart is the part of a new count in that mean.
const othersPart = 0.25

// TakeDelays takes what a far gateway's load says of processing times. What it says
// of services that this cluster does not import from it is not kept.
func (b *Board) TakeDelays(cluster catalog.ClusterName, gateway string, l wire.Load) {
	ix := b.index.Load()
	if ix == nil {
		return
	}
	said := farDelays{at: b.o.Now(), of: make(map[farService]farDelay)}
	for _, s := range l.Offers {
		names := ix.imports[remoteName{cluster, s.Service}]
		if len(names) > 0 && s.ZonesOut != "" {
			if said.out == nil {
				said.out = make(map[farService][]string)
			}
			said.out[farService{s.Service, s.Port}] = strings.Split(s.ZonesOut, ",")
		}
		if len(names) == 0 || s.Processing <= 0 {
			continue
		}
		d, ours := farDelay{processing: s.Processing}, int64(0)
		for _, own := range names {
			ours += b.live.Target(route.Target{Service: own, Port: s.Port, Cluster: cluster}).InFlight()
		}
		d.others = max(0, float64(min(s.InFlight, wire.MaxCalls))-float64(ours))
		said.of[farService{s.Service, s.Port}] = d
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	byGateway := b.delays[cluster]
	if byGateway == nil {
		byGateway = make(map[string]farDelays)
		b.delays[cluster] = byGateway
	}
	if old, had := byGateway[gateway]; had || len(byGateway) < maxReporters {
		for name, d := range said.of {
			if before, known := old.of[name]; known {
				d.others = before.others + othersPart*(d.others-before.others)
				said.of[name] = d
			}
		}
		byGateway[gateway] = said
	}
}

// delayed adds to ev what a cluster's gateways say of a service: the mean of their
// processing times, and what they carry that is not ours. b.mu is held.
func (b *Board) delayed(ev *route.TargetEvidence, cluster catalog.ClusterName, name farService, now time.Time) {
	var processing time.Duration
	var n int64
	var others float64
	for gateway, said := range b.delays[cluster] {
		if now.Sub(said.at) > reportLife {
			delete(b.delays[cluster], gateway)
			continue
		}
		if d, has := said.of[name]; has {
			processing += d.processing
			others += d.others
			n++
		}
	}
	if n == 0 {
		return
	}
	ev.Processing, ev.Others = processing/time.Duration(n), uint64(others+0.5)
}

// AddDelays adds to the load for a gateway of a cluster how long the own endpoints of
// what it may call take to answer. Rows that are there are completed.
func (b *Board) AddDelays(l *wire.Load, cluster catalog.ClusterName) {
	plan, ix := b.Plan(), b.index.Load()
	if plan == nil || ix == nil {
		return
	}
	now, added, e := b.o.Now().UnixNano(), false, b.Evidence()
	rows := make(map[farService]int, len(l.Offers))
	for i := range l.Offers {
		rows[farService{l.Offers[i].Service, l.Offers[i].Port}] = i
	}
	for own := range plan.Readiness() {
		if !slices.Contains(ix.exported[own.Target.Service], cluster) {
			continue
		}
		processing, out := b.live.Forecast(own.Target).Processing(now), zonesOut(e, own.Target)
		if processing <= 0 && out == "" {
			continue
		}
		name := farService{own.Target.Service.String(), own.Target.Port}
		if i, has := rows[name]; has {
			l.Offers[i].Processing, l.Offers[i].ZonesOut = processing, out
			continue
		}
		if len(l.Offers) >= wire.MaxReportServices {
			continue
		}
		l.Offers, added = append(l.Offers, wire.ServiceLoad{
			Service: name.service, Port: name.port, Processing: processing, ZonesOut: out,
			InFlight: uint64(min(max(0, b.live.Target(own.Target).InFlight()), wire.MaxCalls)),
		}), true
	}
	if added {
		slices.SortFunc(l.Offers, func(a, b wire.ServiceLoad) int {
			return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Port, b.Port))
		})
	}
}
