package route

import (
	"fmt"
)

// LedgerRoom is what is known of a candidate's capacity, in calls at once.
type LedgerRoom struct {
	// Capacity is what its cluster declares of the ready endpoints (of a peer, behind
	// the gateways that have a link); Slots what this gateway may use of it: its share
	// of the own cluster's, the grants of a peer's.
	Capacity uint64 `json:"capacity"`
	Slots    uint64 `json:"slots"`
	// Limit is how far calls of the request's priority may fill the slots, Limits those
	// of each priority: what is kept for calls above it, and what a peer grants it, are
	// left out.
	Limit  int64        `json:"limit"`
	Limits LedgerLimits `json:"limits"`
	// InFlight is how many calls are under way now; not in a replay.
	InFlight int64 `json:"in_flight,omitempty"`
	// Full: the decision found no slot for the request.
	Full bool `json:"full,omitempty"`
}

// LedgerLimits are how far calls of each priority may fill slots.
type LedgerLimits struct {
	Critical int64 `json:"critical"`
	Default  int64 `json:"default"`
	Low      int64 `json:"low"`
}

// LedgerDemand is what is asked of a port, and what is to be expected of it.
type LedgerDemand struct {
	PortDemand
	// Taken is what each tier's room can take of the own callers' calls, ExpectedShed
	// what fits nowhere.
	Taken        []float64  `json:"taken"`
	ExpectedShed ByPriority `json:"expected_shed"`
}

func ledgerRoom(rec *Record, i int, c *candidate) *LedgerRoom {
	if !c.room.known {
		return nil
	}
	out := &LedgerRoom{
		Capacity: c.room.capacity, Slots: c.room.slots.UpTo(PriorityCritical), Limit: c.gate.limit[min(rec.request.Priority, Priorities-1)],
		Limits: LedgerLimits{c.gate.limit[PriorityCritical], c.gate.limit[PriorityDefault], c.gate.limit[PriorityLow]},
		Full:   i < 64 && rec.crowded>>i&1 == 1,
	}
	if rec.state != replaying {
		out.InFlight = c.gate.counters.InFlight()
	}
	return out
}

func (p *Plan) ledgerDemand(d *decision) *LedgerDemand {
	demand, known := p.evidence.Demands[PortKey{d.service.service.Name, d.port.port.Name}]
	if !known {
		return nil
	}
	tiers := make([]TierRoom, len(d.layout.tiers))
	for i := range d.layout.tiers {
		if l := &d.layout.tiers[i].level; l.ready > 0 {
			tiers[i] = TierRoom{Unknown: !l.gated, Slots: l.slots}
		}
	}
	out := &LedgerDemand{PortDemand: demand}
	out.Taken, out.ExpectedShed = Expected(demand.Own, tiers)
	return out
}

// text says what the gate lets in of a priority.
func (g *gate) text(p Priority) string {
	return fmt.Sprintf("at most %d calls at once for priority %s", g.limit[min(p, Priorities-1)], p)
}
