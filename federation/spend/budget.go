package spend

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// State is how a budget stands.
type State string

// The states, the better ones first. They go by what was spent, which only grows
// within a month; forecast alone goes by the estimate, and may pass.
const (
	Within   State = "within"
	Forecast State = "forecast" // the month is going to cost more than the budget
	Near     State = "near"     // warn_percent of it are spent
	Over     State = "over"     // it is spent
)

// States are all of them.
func States() []State { return []State{Within, Forecast, Near, Over} }

// calm is how far below the budget an estimate must fall before it is no longer told.
const calm = 0.95

// Standing is how the budget of one service stands.
type Standing struct {
	Service         catalog.ServiceName
	Budget          policy.Budget
	Spent, Estimate float64
	State           State
	// Saving says that the budget's price weight holds.
	Saving bool
}

// Text is the notice of a state.
func (s *Standing) Text() string {
	text := fmt.Sprintf("%s: %.4g of %.4g dollars are spent this month, which is going to cost %.4g", s.State, s.Spent, s.Budget.Monthly, s.Estimate)
	if s.Saving {
		text += fmt.Sprintf("; price_weight %g holds until it ends", s.Budget.Save.PriceWeight)
	}
	return text
}

// Judge says how budgets stand, by service, and which of them stand otherwise than
// when it was asked last. budget is that of a service; nil is none.
func (l *Ledger) Judge(now time.Time, budget func(catalog.ServiceName) *policy.Budget) (all, news []Standing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn(now)
	sums := make(map[catalog.ServiceName]*Standing)
	for _, a := range l.read(now).Accounts {
		s := sums[a.Service]
		if s == nil {
			b := budget(a.Service)
			if b == nil {
				continue
			}
			s = &Standing{Service: a.Service, Budget: b.Filled()}
			sums[a.Service] = s
		}
		s.Spent += a.Spent
		s.Estimate += a.Estimate
	}
	states := make(map[catalog.ServiceName]State, len(sums))
	for name, s := range sums {
		was := cmp.Or(l.states[name], Within)
		s.judge(was)
		states[name] = s.State
		all = append(all, *s)
		if s.State != was {
			news = append(news, *s)
			l.dirty = true
		}
	}
	l.states = states
	byName := func(a, b Standing) int { return a.Service.Compare(b.Service) }
	slices.SortFunc(all, byName)
	slices.SortFunc(news, byName)
	return all, news
}

// Stand is how a budget stands, of which nothing was told before.
func Stand(service catalog.ServiceName, b *policy.Budget, spent, estimate float64) Standing {
	s := Standing{Service: service, Budget: b.Filled(), Spent: spent, Estimate: estimate}
	s.judge(Within)
	return s
}

func (s *Standing) judge(was State) {
	b := &s.Budget
	part := 100 * s.Spent / b.Monthly
	switch {
	case part >= 100:
		s.State = Over
	case part >= float64(b.WarnPercent):
		s.State = Near
	case s.Estimate > b.Monthly, was == Forecast && s.Estimate > calm*b.Monthly:
		s.State = Forecast
	default:
		s.State = Within
	}
	s.Saving = b.Save != nil && part >= float64(b.Save.FromPercent)
}

// Saving are the services whose price weight is their budget's, in order.
func Saving(all []Standing) (out []catalog.ServiceName) {
	for i := range all {
		if all[i].Saving {
			out = append(out, all[i].Service)
		}
	}
	return out
}
