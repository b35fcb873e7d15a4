package budget

import (
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/route"
)

const (
	// Lease is how long a share holds after the report that it answers: several missed
	// reports.
	Lease = 10 * time.Second
	// Floor is the part of a budget that is split evenly whatever is asked for.
	Floor = 0.02
	// MaxBudgets bounds the budgets that are split; gateways use an even part of those
	// beyond.
	MaxBudgets = 20_000
)

// Allocator splits budgets. The zero value is ready. It is safe for concurrent use.
type Allocator struct {
	mu       sync.Mutex
	gateways map[string]*gateway
	budgets  map[route.Budget]map[string]claim // by gateway
}

// gateway is one that has reported within a lease.
type gateway struct {
	at     time.Time
	claims map[route.Budget]bool
}

// claim is what one gateway wants of a budget, and holds.
type claim struct{ wanted, held float64 }

// Report takes the demands of a gateway and returns its shares. gateways is how many the
// cluster has, those that are silent for a moment included.
func (a *Allocator) Report(name string, demands []route.Demand, gateways int, now time.Time) *route.Shares {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.gateways == nil {
		a.gateways, a.budgets = make(map[string]*gateway), make(map[route.Budget]map[string]claim)
	}
	for other, g := range a.gateways {
		if now.Sub(g.at) > Lease {
			a.release(other, nil)
			delete(a.gateways, other)
		}
	}
	g := a.gateways[name]
	if g == nil {
		g = new(gateway)
		a.gateways[name] = g
	}
	out := &route.Shares{Gateways: max(gateways, len(a.gateways)), LeaseMS: uint32(Lease / time.Millisecond)}
	named := make(map[route.Budget]bool, len(demands))
	for _, d := range demands[:min(len(demands), route.MaxDemands)] {
		if !(d.Part >= 0) || d.Part > 1e9 {
			d.Part = 0 // of a gateway that cannot count
		}
		claims := a.budgets[d.Budget]
		if claims == nil {
			if len(a.budgets) >= MaxBudgets {
				continue
			}
			claims = make(map[string]claim)
			a.budgets[d.Budget] = claims
		}
		named[d.Budget] = true
		out.Shares = append(out.Shares, route.Share{Budget: d.Budget, Part: grant(claims, name, d.Part, out.Gateways)})
	}
	a.release(name, named)
	g.at, g.claims = now, named
	return out
}

// Forget takes back what a gateway holds that goes away in order.
func (a *Allocator) Forget(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.release(name, nil)
	delete(a.gateways, name)
}

// release drops the claims of a gateway but on those budgets that it has named now.
func (a *Allocator) release(name string, named map[route.Budget]bool) {
	g := a.gateways[name]
	if g == nil {
		return
	}
	for b := range g.claims {
		if named[b] {
			continue
		}
		claims := a.budgets[b]
		if delete(claims, name); len(claims) == 0 {
			delete(a.budgets, b)
		}
	}
}

// grant works out the share of one gateway.
func grant(claims map[string]claim, name string, wanted float64, gateways int) float64 {
	all, others := wanted, 0.0
	for other, c := range claims {
		if other != name {
			all, others = all+c.wanted, others+c.held
		}
	}
	even := Floor / float64(gateways)
	part := wanted + (1-all)/float64(gateways)
	if all > 1 {
		part = wanted / all
	}
	// Into what nobody holds, and never below the floor.
	part = min(max(min(even+(1-Floor)*part, 1-others), even), 1)
	claims[name] = claim{wanted: wanted, held: part}
	return part
}
