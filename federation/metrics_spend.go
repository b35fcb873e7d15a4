package federation

import (
	"github.com/isthmus-mesh/isthmus/federation/pricebook"
	"github.com/isthmus-mesh/isthmus/federation/spend"
	"github.com/prometheus/client_golang/prometheus"
)

// spendMetrics tell of prices: by cluster, and by service for those with a budget, so
// that their number is bounded by what an operator has written.
type spendMetrics struct {
	prices, bad                         prometheus.Gauge
	month, estimate                     *prometheus.GaugeVec
	budget, budgetSpent, budgetEstimate *prometheus.GaugeVec
	state                               *prometheus.GaugeVec
}

func newSpendMetrics() spendMetrics {
	vec := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	return spendMetrics{
		prices: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "isthmus_federation_price_book_prices", Help: "Prices of the price book that is in force; 0 without one.",
		}),
		bad: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "isthmus_federation_price_book_bad", Help: "1 while the price book's file cannot be used and the one of before stays in force.",
		}),
		month:          vec("isthmus_federation_spend_month_dollars", "Estimated cost, this month (UTC), of the own callers' traffic by the cluster that served it.", "cluster"),
		estimate:       vec("isthmus_federation_spend_estimate_dollars", "What that is expected to be at the month's end.", "cluster"),
		budget:         vec("isthmus_federation_budget_dollars", "Monthly budget of a service.", "service"),
		budgetSpent:    vec("isthmus_federation_budget_spent_dollars", "What was spent of it.", "service"),
		budgetEstimate: vec("isthmus_federation_budget_estimate_dollars", "What the month is expected to cost.", "service"),
		state:          vec("isthmus_federation_budget_state", "1 for the state of a service's budget: within, forecast, near, over.", "service", "state"),
	}
}

func (m *metrics) spending(file *pricebook.File, month spend.Month, budgets []spend.Standing) {
	s := &m.spend
	s.prices.Set(0)
	s.bad.Set(0)
	if file != nil {
		st := file.Status()
		if st.Book != nil {
			s.prices.Set(float64(len(st.Book.Prices)))
		}
		if st.Err != nil {
			s.bad.Set(1)
		}
	}
	s.month.Reset()
	s.estimate.Reset()
	for i := range month.Accounts {
		a := &month.Accounts[i]
		s.month.WithLabelValues(string(a.Cluster)).Add(a.Spent)
		s.estimate.WithLabelValues(string(a.Cluster)).Add(a.Estimate)
	}
	for _, v := range []*prometheus.GaugeVec{s.budget, s.budgetSpent, s.budgetEstimate, s.state} {
		v.Reset()
	}
	for i := range budgets {
		b, name := &budgets[i], budgets[i].Service.String()
		s.budget.WithLabelValues(name).Set(b.Budget.Monthly)
		s.budgetSpent.WithLabelValues(name).Set(b.Spent)
		s.budgetEstimate.WithLabelValues(name).Set(b.Estimate)
		for _, state := range spend.States() {
			value := 0.0
			if state == b.State {
				value = 1
			}
			s.state.WithLabelValues(name, string(state)).Set(value)
		}
	}
}
