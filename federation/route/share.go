package route

import (
	"cmp"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// MaxDemands bounds the budgets of one report.
const MaxDemands = 512

// Budget names one budget that the gateways of a cluster share: a rate of a service's
// traffic policy, and what it is split by.
type Budget struct {
	Service catalog.ServiceName `json:"service"`
	Rate    string              `json:"rate"`
	// Caller and Cluster are set where the rate is split by them.
	Caller  string              `json:"caller,omitempty"`
	Cluster catalog.ClusterName `json:"cluster,omitempty"`
}

// Compare orders budgets.
func (b Budget) Compare(o Budget) int {
	return cmp.Or(b.Service.Compare(o.Service), cmp.Compare(b.Rate, o.Rate), cmp.Compare(b.Caller, o.Caller), cmp.Compare(b.Cluster, o.Cluster))
}

// Demand is what a gateway was asked for of a budget, as a part of it: 1 is all of it.
type Demand struct {
	Budget
	Part float64 `json:"part"`
}

// Share is what a gateway may use of a budget, as a part of it.
type Share struct {
	Budget
	Part float64 `json:"part"`
}

// Shares is a federation's answer to a report with demands.
type Shares struct {
	// Gateways is how many gateways the cluster has.
	Gateways int `json:"gateways"`
	// LeaseMS is how long the shares hold, in milliseconds after the report was sent.
	LeaseMS uint32  `json:"lease_ms"`
	Shares  []Share `json:"shares,omitempty"`
}
