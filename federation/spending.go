package federation

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/spend"
)

// Spend says what the traffic of the own callers costs; the zero service means all.
func (p *plane) Spend(service catalog.ServiceName) resource.Spend {
	now := p.now()
	month := p.prices.ledger.Month(now)
	out := resource.Spend{
		At: now.UTC(), Month: month.Begins.Format("2006-01"), Since: month.Since.UTC(), Services: []resource.ServiceSpend{},
	}
	if f := p.priceFile(); f != nil {
		st := f.Status()
		out.Book = &resource.PriceBook{Path: st.Path, Since: st.Since.UTC(), Kept: st.Kept}
		if st.Book != nil {
			out.Book.Prices = len(st.Book.Prices)
		}
		if st.Err != nil {
			out.Book.Problem = st.Err.Error()
		}
	}
	head := p.tables.current()
	unpriced := make(map[catalog.ClusterName]bool)
	for i := range month.Accounts {
		a := &month.Accounts[i]
		if !service.IsZero() && a.Service != service {
			continue
		}
		path := resource.PathSpend{
			Cluster: a.Cluster, Sent: a.Sent, Received: a.Received, Spent: a.Spent, Estimate: a.Estimate, Unpriced: a.Unpriced,
		}
		if head != nil && head.Head().Tariff != nil {
			t := head.Head().Tariff
			price := t.Toward(a.Cluster, false, now)
			if a.Cluster == p.opts.Cluster {
				price = t.BetweenZones(now)
			}
			path.Price = &price
		}
		if a.Unpriced > 0 {
			unpriced[a.Cluster] = true
		}
		n := len(out.Services)
		if n == 0 || out.Services[n-1].Service != a.Service {
			out.Services = append(out.Services, resource.ServiceSpend{Service: a.Service})
			n++
		}
		s := &out.Services[n-1]
		s.Paths = append(s.Paths, path)
		s.Spent, s.Estimate, s.LastMonth = s.Spent+a.Spent, s.Estimate+a.Estimate, s.LastMonth+a.LastMonth
		out.Spent, out.Estimate, out.LastMonth = out.Spent+a.Spent, out.Estimate+a.Estimate, out.LastMonth+a.LastMonth
	}
	p.addBudgets(out.Services)
	slices.SortStableFunc(out.Services, func(a, b resource.ServiceSpend) int { return cmp.Compare(b.Estimate, a.Estimate) })
	for i := range out.Services {
		paths := out.Services[i].Paths
		slices.SortStableFunc(paths, func(a, b resource.PathSpend) int { return cmp.Compare(b.Estimate, a.Estimate) })
	}
	if out.Total = len(out.Services); out.Total > resource.MaxSpend {
		out.Services = out.Services[:resource.MaxSpend]
	}
	if out.Book == nil {
		out.Unknown = append(out.Unknown, "no price book is configured: everything counts as free")
	} else {
		for _, c := range slices.Sorted(maps.Keys(unpriced)) {
			what := "bytes were carried for which the book had no price; they count as free"
			if c == p.opts.Cluster {
				what = "the zones of gateways or endpoints, or what is between zones, is not known; what stays in the cluster counts as free"
			}
			out.Unknown = append(out.Unknown, fmt.Sprintf("%s: %s", c, what))
		}
	}
	if month.Partial {
		out.Unknown = append(out.Unknown, "there are more services and clusters than are counted apart")
	}
	return out
}

// addBudgets says how the budgets of services stand.
func (p *plane) addBudgets(list []resource.ServiceSpend) {
	h := p.horizon.Load()
	if h == nil {
		return
	}
	for i := range list {
		s := &list[i]
		b := h.index.TrafficFor(s.Service).Budget
		if b == nil {
			continue
		}
		s.Budget = budgetStanding(b, s)
	}
}

func budgetStanding(b *policy.Budget, s *resource.ServiceSpend) *resource.BudgetStanding {
	standing := spend.Stand(s.Service, b, s.Spent, s.Estimate)
	out := &resource.BudgetStanding{
		Monthly: b.Monthly, WarnPercent: standing.Budget.WarnPercent, State: string(standing.State), Saving: standing.Saving,
	}
	if standing.Saving {
		out.PriceWeight = b.Save.PriceWeight
	}
	return out
}
