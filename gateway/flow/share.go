package flow

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

const (
	// demandMemory is the time constant over which the demand of a budget is averaged:
	// shares follow what lasts a few seconds.
	demandMemory = 3 * time.Second
	// idleAfter is when a budget that nobody uses is no longer reported.
	idleAfter = 30 * time.Second
)

// lease is a part of a budget.
type lease struct {
	part  float64
	until int64 // Unix nanoseconds
}

// shares is what is known of the other gateways.
type shares struct {
	others atomic.Int64 // gateways of the cluster, this one included; 0 is not known

	mu      sync.Mutex // of reports
	last    int64
	demands map[*entry]float64
}

func (s *shares) gateways(n int) {
	if n > 0 {
		s.others.Store(int64(n))
	}
}

// even is the part of each gateway where nothing else is known.
func (s *shares) even() float64 { return 1 / float64(max(1, s.others.Load())) }

// part is what may be used of a budget now. A lease that has ended stays what it was, and
// is not below an even part: the federation may be gone for long, and what flowed flows.
func (s *shares) part(l *lease, now int64) float64 {
	switch {
	case l == nil:
		return s.even()
	case now < l.until:
		return l.part
	default:
		return max(l.part, s.even())
	}
}

// Demands is what each budget that the cluster shares was asked for, as a part of it: the
// most wanted ones, route.MaxDemands at most.
func (c *Controller) Demands() []route.Demand {
	s := &c.shares
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now().UnixNano()
	passed := time.Duration(now - s.last)
	first := s.last == 0
	s.last = now
	if passed <= 0 {
		return nil
	}
	decay := math.Exp(-passed.Seconds() / demandMemory.Seconds())
	next := make(map[*entry]float64, len(s.demands))
	var list []route.Demand
	for _, svc := range *c.services.Load() {
		for _, r := range svc.rates {
			if r.rule.Scope != policy.PerCluster {
				continue
			}
			limit := float64(r.rule.Requests) / r.rule.Interval().Seconds()
			r.mu.RLock()
			for _, e := range r.entries {
				if now-e.lastSeen.Load() > int64(idleAfter) {
					e.lease.Store(nil) // it is no longer reported, so the share goes back
					continue
				}
				offered := float64(e.offered.Swap(0)) / passed.Seconds() / limit
				demand, known := s.demands[e]
				switch {
				case first:
					demand = 0 // since when is not known
				case !known:
					demand = offered
				default:
					demand = offered + (demand-offered)*decay
				}
				next[e] = demand
				list = append(list, route.Demand{Budget: e.budget(), Part: demand})
			}
			r.mu.RUnlock()
		}
	}
	s.demands = next
	slices.SortFunc(list, func(a, b route.Demand) int { return cmp.Or(cmp.Compare(b.Part, a.Part), a.Compare(b.Budget)) })
	return list[:min(len(list), route.MaxDemands)]
}

// TakeShares takes the federation's answer to a report that was sent at the given time.
func (c *Controller) TakeShares(sent time.Time, answer *route.Shares) {
	s := &c.shares
	s.gateways(answer.Gateways)
	until := sent.Add(time.Duration(answer.LeaseMS) * time.Millisecond).UnixNano()
	services := *c.services.Load()
	for i := range answer.Shares {
		share := &answer.Shares[i]
		svc := services[share.Service]
		if svc == nil || !(share.Part >= 0 && share.Part <= 1) {
			continue
		}
		for _, r := range svc.rates {
			if r.rule.Name != share.Rate {
				continue
			}
			r.mu.RLock()
			e := r.entries[entryKey{caller: share.Caller, cluster: share.Cluster}]
			r.mu.RUnlock()
			if e != nil {
				e.lease.Store(&lease{part: share.Part, until: until})
			}
		}
	}
}
