package resource

import (
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// Explanation is what one gateway would decide for one request now, and why.
type Explanation struct {
	// Cluster is where the decision is made, Gateway who would make it.
	Cluster catalog.ClusterName `json:"cluster"`
	Gateway string              `json:"gateway"`
	// ReportAge is how old the gateway's evidence is.
	ReportAge time.Duration `json:"report_age_ns"`
	// Epoch and Version are those of the table that the decision is explained by;
	// Lagging is set where the gateway itself routes by an older one.
	Epoch   uint64        `json:"epoch"`
	Version uint64        `json:"version"`
	Lagging bool          `json:"lagging,omitempty"`
	Ledger  *route.Ledger `json:"ledger"`
}

// ExplainQuery asks for an Explanation.
type ExplainQuery struct {
	Service catalog.ServiceName
	// Port is a port's name, "" the only or default one.
	Port string
	// Pin restricts the choice to one cluster.
	Pin catalog.ClusterName
	// From asks another cluster's federation; "" is the own cluster.
	From catalog.ClusterName
	// Gateway picks one gateway; "" takes the one with the freshest report.
	Gateway string
}
