package route

import (
	"iter"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Want is what this gateway would send to one cluster of one service's calls: those
// that fit nowhere nearer.
type Want struct {
	Cluster catalog.ClusterName
	// Name and Port are that cluster's own.
	Name catalog.ServiceName
	Port string
	// Calls are at once; InFlight are there now.
	Calls, InFlight uint64
}

// wantMargin is asked for above the demand of the moment, which is an average.
const wantMargin = 1.1

// Wants yields what this gateway wants of peers whose capacity is known, port by
// port: the demand that is left after what is nearer, split evenly between the
// clusters of a tier. It is in no order.
func (p *Plan) Wants() iter.Seq[Want] {
	return func(yield func(Want) bool) {
		for key, d := range p.evidence.Demands {
			s := p.of(key.Service)
			if s == nil {
				continue
			}
			port := s.port(key.Port)
			if port != nil && !port.near.wants(bounded(d.Own.Sum())*wantMargin, yield) {
				return
			}
		}
	}
}

func (l *layout) wants(left float64, yield func(Want) bool) bool {
	for i := range l.tiers {
		t := &l.tiers[i]
		var gated, open, slots float64
		for k := t.first; k < t.last; k++ {
			switch c := &l.candidates[k]; {
			case c.ready == 0:
			case !c.room.known:
				open++
			default:
				slots += float64(c.room.slots)
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
			w := Want{
				Cluster: c.target.Cluster, Name: c.name, Port: c.port.Name,
				Calls: uint64(left/(gated+open) + 0.5), InFlight: uint64(max(c.counters.InFlight(), 0)),
			}
			if !yield(w) {
				return false
			}
		}
		if open > 0 {
			return true // it takes what reaches it
		}
		left = max(left-slots, 0)
	}
	return true
}
