package route

import (
	"math"
	"strconv"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Fill is the part of a declared capacity that is used at most: the rest is for what
// several gateways cannot know of each other at the same moment.
const Fill = 0.95

// PortKey is a port of a service, by the caller's name for it.
type PortKey struct {
	Service catalog.ServiceName `json:"service"`
	Port    string              `json:"port"`
}

// Compare orders keys by service and port.
func (k PortKey) Compare(o PortKey) int {
	return Target{Service: k.Service, Port: k.Port}.Compare(Target{Service: o.Service, Port: o.Port})
}

// PortDemand is what is asked of one port through this gateway, before anything is
// refused. Calls are those at once (rate x duration), rates those per second.
type PortDemand struct {
	// Own are calls of callers in the own cluster, Peers those that peers' gateways
	// bring.
	Own   ByPriority `json:"own"`
	Peers ByPriority `json:"peers"`
	// Rate is how many of the own callers' calls come a second, Shed how many of them
	// are refused because they fit nowhere.
	Rate ByPriority `json:"rate"`
	Shed ByPriority `json:"shed"`
}

// room is what is known of a candidate's capacity, in calls at once.
type room struct {
	known bool
	// capacity is what the cluster declares of its ready endpoints, slots what this
	// gateway may use of it: its share of the own, its grants of a peer's.
	capacity uint64
	slots    Graded
}

// CapacityOf is how many calls at once an endpoint takes: what its label says, else
// what the policy declares for each; 0 is not known.
func CapacityOf(e *catalog.Endpoint, perEndpoint uint32) uint64 {
	if text, ok := e.Labels[catalog.CapacityLabel]; ok {
		if n, err := strconv.ParseUint(text, 10, 32); err == nil && n > 0 && n <= catalog.MaxEndpointCapacity {
			return n
		}
	}
	return uint64(perEndpoint)
}

// ownRoom sets the room of an own candidate: that of its ready endpoints, if it is
// known of all, and this gateway's share of it.
func (c *compiler) ownRoom(cand *candidate, perEndpoint uint32) {
	var sum, unknown uint64
	for i := range cand.endpoints.members {
		m := &cand.endpoints.members[i]
		if m.reason != "" {
			continue
		}
		n := CapacityOf(m.endpoint, perEndpoint)
		if sum += n; n == 0 {
			unknown++
		}
	}
	if sum == 0 || unknown > 0 {
		return
	}
	cand.room = room{known: true, capacity: sum, slots: Graded{Any: SlotsOf(sum, c.evidence.Targets[cand.target].Share)}}
}

// SlotsOf is what a gateway with a share of capacity lets in: at least one call, or
// a small capacity behind many gateways would serve nobody. A share of 0 is all.
func SlotsOf(capacity uint64, share float64) uint64 {
	if !(share > 0) || share > 1 {
		share = 1
	}
	if capacity == 0 {
		return 0
	}
	return max(uint64(float64(capacity)*share*Fill), 1)
}

// farRoom sets the room of a peer's candidate: what its gateways grant this one. A
// grant whose lease is over is no evidence, and the capacity is then not known.
func (c *compiler) farRoom(cand *candidate, te TargetEvidence) {
	if te.Capacity > 0 && te.GrantedUntil.After(c.evidence.Now) {
		cand.room = room{known: true, capacity: te.Capacity, slots: te.Granted}
	}
}

// gates closes the candidates of a port whose room is known.
func (c *compiler) gates(t PortKey, all []candidate) {
	d := c.evidence.Demands[t]
	var demand ByPriority
	for p := range demand {
		demand[p] = bounded(d.Own[p]) + bounded(d.Peers[p])
	}
	for i := range all {
		cand := &all[i]
		if !cand.room.known {
			continue
		}
		counters := cand.counters
		if cand.zoneCounters != nil {
			counters = cand.zoneCounters
		}
		cand.gate = newGate(counters, cand.room.slots, &demand)
	}
}

// bounded is x where it is a count: evidence may have been read from outside.
func bounded(x float64) float64 {
	if !(x > 0) || math.IsInf(x, 1) {
		return 0
	}
	return x
}

// TierRoom is what calls of each priority may fill a tier up to; Unknown takes what
// reaches it.
type TierRoom struct {
	Unknown bool
	Slots   Graded
}

// Expected is what becomes of a demand: how many calls at once of each tier's room
// are taken, and what of each priority fits nowhere.
func Expected(demand ByPriority, tiers []TierRoom) (taken []float64, shed ByPriority) {
	taken = make([]float64, len(tiers))
	for _, p := range servedFirst {
		left := bounded(demand[p])
		for i := range tiers {
			here := left
			if t := &tiers[i]; !t.Unknown {
				here = min(left, max(float64(t.Slots.UpTo(p))-taken[i], 0))
			}
			taken[i] += here
			left -= here
		}
		shed[p] = left
	}
	return taken, shed
}
