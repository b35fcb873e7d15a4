package route

import (
	"iter"
	"math"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Want is what this gateway would send to one cluster of one service's calls: those
// that fit nowhere nearer.
type Want struct {
	Cluster catalog.ClusterName
	// Name and Port are that cluster's own.
	Name catalog.ServiceName
	Port string
	// Calls are at once, by priority; InFlight are there now.
	Calls    [Priorities]uint64
	InFlight uint64
}

// wantMargin is asked for above the demand of the moment, which is an average.
const wantMargin = 1.1

// needed is how many slots find one free for all but one of some ten thousand calls, of
// which calls are in progress on average: four standard deviations above it, and two for
// the few, of which the deviation says little.
func needed(calls float64) float64 {
	if !(calls > 0) {
		return 0
	}
	return calls + 4*math.Sqrt(calls) + 2
}

// Wants yields what this gateway wants of peers whose capacity is known, port by
// port: the demand that is left after what is nearer, split evenly between the
// clusters of a tier. Of critical calls it is as much as nearly all of them find room in,
// not only an average of them. It is in no order.
func (p *Plan) Wants() iter.Seq[Want] {
	return func(yield func(Want) bool) {
		for key, d := range p.evidence.Demands {
			s := p.of(key.Service)
			if s == nil {
				continue
			}
			port := s.port(key.Port)
			if port != nil && !port.near.wants(d.Own, yield) {
				return
			}
		}
	}
}

func (l *layout) wants(demand ByPriority, yield func(Want) bool) bool {
	left, critical := ByPriority{}, needed(bounded(demand[PriorityCritical]))
	for p := range left {
		left[p] = bounded(demand[p]) * wantMargin
	}
	for i := range l.tiers {
		t := &l.tiers[i]
		var gated, open float64
		var slots Graded
		for k := t.first; k < t.last; k++ {
			switch c := &l.candidates[k]; {
			case c.ready == 0:
			case !c.room.known:
				open++
			default:
				slots = slots.Plus(c.room.slots)
				if !c.own() {
					gated++
				}
			}
		}
		for k := t.first; k < t.last; k++ {
			c := &l.candidates[k]
			if c.own() || c.ready == 0 || !c.room.known {
				continue
			}
			part := func(calls float64) uint64 { return uint64(calls/(gated+open) + 0.5) }
			w := Want{
				Cluster: c.target.Cluster, Name: c.name, Port: c.port.Name, InFlight: uint64(max(c.counters.InFlight(), 0)),
				Calls: [Priorities]uint64{
					PriorityCritical: part(max(critical, left[PriorityCritical])), PriorityDefault: part(left[PriorityDefault]), PriorityLow: part(left[PriorityLow]),
				},
			}
			if !yield(w) {
				return false
			}
		}
		if open > 0 {
			return true // it takes what reaches it
		}
		critical = max(critical-float64(slots.UpTo(PriorityCritical)), 0)
		_, left = Expected(left, []TierRoom{{Slots: slots}})
	}
	return true
}
