package simulate

import (
	"cmp"
	"slices"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// maxShed bounds the callers of one service that are told.
const maxShed = 100

// leastLost is the part of calls below which a loss is the noise of few calls.
const leastLost = 0.0005

// shed says whose calls go nowhere: of callers of one priority each loses the same
// part.
func (l *line) shed(before, atOnce, settled moment) []resource.SimulatedShed {
	var out []resource.SimulatedShed
	for _, a := range l.askers {
		p := a.priority % route.Priorities
		x := resource.SimulatedShed{
			Caller: a.caller, Priority: a.priority.String(), PerSecond: a.perSecond,
			Before: 100 * before.lost[p], AtOnce: 100 * atOnce.lost[p], Settled: 100 * settled.lost[p],
		}
		if max(x.Before, x.AtOnce, x.Settled) >= 100*leastLost {
			out = append(out, x)
		}
	}
	slices.SortFunc(out, func(a, b resource.SimulatedShed) int {
		return cmp.Or(cmp.Compare(b.PerSecond*b.Settled, a.PerSecond*a.Settled), cmp.Compare(b.PerSecond*b.AtOnce, a.PerSecond*a.AtOnce),
			cmp.Compare(a.Caller, b.Caller), cmp.Compare(a.Priority, b.Priority))
	})
	return out[:min(len(out), maxShed)]
}

// grant gives a gateway what it would be granted once it has asked: of the spare
// capacity of each peer its part, by the calls that the own gateways have for the
// service. What it is granted now it keeps.
func (s *simulation) grant(g *Gateway, r *route.Report) {
	own := make(map[string]float64)
	for _, l := range demandOf(g) {
		own[l.service.String()] += l.calls
	}
	for i := range r.Targets {
		t := &r.Targets[i]
		if t.Room == nil || t.Room.GradedSpare() == (route.Graded{}) || t.Target.Cluster == g.Table.Cluster.Name {
			continue
		}
		all := s.asked[t.Target.Service]
		if all <= 0 {
			continue
		}
		room := *t.Room
		room.SetGrant(room.GradedGrant().AtLeast(room.GradedSpare().Times(own[t.Target.Service.String()] / all)))
		t.Room = &room
	}
}
