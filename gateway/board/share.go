package board

import (
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// lent is this gateway's part of the own cluster's capacity of a port.
type lent struct {
	part  float64
	until time.Time
}

// shareMargin is asked for above what is used of a shared capacity.
const shareMargin = 1.25

// capacityBudget begins the names of budgets that are a port's capacity; no rate of a
// policy can be called so.
const capacityBudget = "capacity:"

// Demands is what each port whose capacity is declared is asked for through this
// gateway, as a part of the capacity, for the federation to share it out.
func (b *Board) Demands() (list []route.Demand) {
	plan, e := b.Plan(), b.Evidence()
	if plan == nil || e == nil {
		return nil
	}
	for own := range plan.Capacities() {
		d := e.Demands[route.PortKey{Service: own.Target.Service, Port: own.Target.Port}]
		list = append(list, route.Demand{
			Budget: route.Budget{Service: own.Target.Service, Rate: capacityBudget + own.Target.Port},
			Part:   min((d.Own.Sum()+d.Peers.Sum())*shareMargin/float64(own.Capacity), 1),
		})
	}
	return list
}

// TakeShares takes the federation's answer to a report that was sent at the given
// time. Until one has come the whole capacity is this gateway's; without a lease it is
// an even part.
func (b *Board) TakeShares(sent time.Time, answer *route.Shares) {
	until := sent.Add(time.Duration(answer.LeaseMS) * time.Millisecond)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.even = 1 / float64(max(answer.Gateways, 1))
	for i := range answer.Shares {
		s := &answer.Shares[i]
		port, is := strings.CutPrefix(s.Rate, capacityBudget)
		if is && s.Part >= 0 && s.Part <= 1 {
			b.shares[route.PortKey{Service: s.Service, Port: port}] = lent{s.Part, until}
		}
	}
}

// share is this gateway's part of a port's capacity. A lease that has ended stays what
// it was, and is not below an even part: the federation may be gone for long. b.mu is
// held.
func (b *Board) share(key route.PortKey, now time.Time) float64 {
	l, has := b.shares[key]
	switch {
	case b.even == 0:
		return 1
	case !has:
		return b.even
	case now.Before(l.until):
		return l.part
	default:
		return max(l.part, b.even)
	}
}

// hasCapacityLabel reports whether an own endpoint of s says what it takes.
func (b *Board) hasCapacityLabel(s *route.Service) bool {
	return slices.ContainsFunc(s.Endpoints, func(e catalog.Endpoint) bool { return e.Labels[catalog.CapacityLabel] != "" })
}

// learned is what the endpoints of a port whose capacity nobody declares were found to
// take through this gateway, while callers meet that limit: what peers may send is then
// granted out of it. What this gateway's own callers may use is not bounded by it here,
// since their requests wait for a place (gateway/flow). The limit is that of a service as
// a whole, so that one with several ports has none. 0 is not known.
func (b *Board) learned(plan *route.Plan, own route.Readiness) uint64 {
	if b.o.Learned == nil || own.Ready == 0 || !plan.HasOnePort(own.Target.Service) {
		return 0
	}
	calls, ok := b.o.Learned(own.Target.Service)
	if !ok || calls <= 0 {
		return 0
	}
	return min(route.SlotsOf(uint64(calls), 1), wire.MaxCalls)
}
