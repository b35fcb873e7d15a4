package resource

import (
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// MaxSpend bounds the services of an answer.
const MaxSpend = 1000

// Spend is what the traffic of the own cluster's callers is estimated to cost, in
// dollars, by the price book.
type Spend struct {
	At time.Time `json:"at"`
	// Month is the calendar month (UTC), Since since when is counted within it.
	Month string     `json:"month" doc:"YYYY-MM, in UTC."`
	Since time.Time  `json:"since"`
	Book  *PriceBook `json:"price_book,omitempty" doc:"Absent where none is configured: everything counts as free."`
	// Spent, Estimate and LastMonth are over all services.
	Spent     float64 `json:"spent_dollars"`
	Estimate  float64 `json:"estimate_dollars" doc:"What the month is going to cost: what was spent, and for the rest of it what the last day cost."`
	LastMonth float64 `json:"last_month_dollars"`
	// Services are those that cost or carried anything, the dearest first.
	Services []ServiceSpend `json:"services" nullable:"false"`
	Total    int            `json:"total" doc:"How many services there are; services has at most 1000 of them."`
	// Unknown says what the figures do not know.
	Unknown []string `json:"unknown,omitempty"`
}

// PriceBook says which prices are in force.
type PriceBook struct {
	Path   string    `json:"path"`
	Prices int       `json:"prices"`
	Since  time.Time `json:"since,omitzero"`
	// Kept: the file was no good since the start, these are the prices of before it.
	Kept bool `json:"kept,omitempty"`
	// Problem is what is wrong with the file; the prices of before stay in force.
	Problem string `json:"problem,omitempty"`
}

// ServiceSpend is the part of one service.
type ServiceSpend struct {
	Service   catalog.ServiceName `json:"service"`
	Spent     float64             `json:"spent_dollars"`
	Estimate  float64             `json:"estimate_dollars"`
	LastMonth float64             `json:"last_month_dollars,omitempty"`
	Budget    *BudgetStanding     `json:"budget,omitempty"`
	// Paths are the clusters that served it.
	Paths []PathSpend `json:"paths" nullable:"false"`
}

// BudgetStanding is how a service's budget stands.
type BudgetStanding struct {
	Monthly     float64 `json:"monthly_dollars"`
	WarnPercent uint32  `json:"warn_percent"`
	// State is "within", "forecast" (the estimate is above the budget), "near"
	// (warn_percent are spent) or "over" (it is spent).
	State string `json:"state"`
	// Saving: the budget's price weight holds until the month ends.
	Saving      bool    `json:"saving,omitempty"`
	PriceWeight float64 `json:"price_weight,omitempty" doc:"The weight that holds while saving."`
}

// PathSpend is what one cluster served.
type PathSpend struct {
	Cluster  catalog.ClusterName `json:"cluster"`
	Sent     uint64              `json:"sent_bytes" doc:"Payload of requests, this month."`
	Received uint64              `json:"received_bytes" doc:"Payload of answers, this month."`
	Spent    float64             `json:"spent_dollars"`
	Estimate float64             `json:"estimate_dollars"`
	// Unpriced are bytes that counted as free since the book had no price for them.
	Unpriced uint64 `json:"unpriced_bytes,omitempty"`
	// Price is that of now; of the own cluster that between two of its zones.
	Price *route.Price `json:"price,omitempty"`
}
