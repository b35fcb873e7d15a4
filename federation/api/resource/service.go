package resource

import (
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/merge"
)

// Service is one service as this cluster sees it: own endpoints and peers' offers.
type Service struct {
	Name  catalog.ServiceName `json:"name"`
	Ports []catalog.Port      `json:"ports"`
	// Endpoints and Ready count the own cluster's; Ready by what the data path
	// saw, and by the source's word where no gateway has looked yet.
	Endpoints int      `json:"endpoints"`
	Ready     int      `json:"ready"`
	Sources   []string `json:"sources,omitempty"`
	// ExportedTo names the peers to which the own endpoints are offered.
	ExportedTo []catalog.ClusterName `json:"exported_to,omitempty"`
	Remote     []Offer               `json:"remote,omitempty"`
	Conflicts  []merge.Conflict      `json:"conflicts,omitempty"`
	// TrafficPolicy names the policy that covers the service.
	TrafficPolicy string `json:"traffic_policy,omitempty"`
}

// Offer is what one peer offers of a service.
type Offer struct {
	Cluster catalog.ClusterName `json:"cluster"`
	// Name is the service's name in that cluster.
	Name     catalog.ServiceName  `json:"name"`
	Ports    []catalog.Port       `json:"ports"`
	Ready    uint64               `json:"ready"`
	Total    uint64               `json:"total"`
	Capacity uint64               `json:"capacity,omitempty"`
	Rows     []catalog.SummaryRow `json:"rows,omitempty"`
	// Import names the rule that takes it.
	Import      string `json:"import"`
	ControlLost bool   `json:"control_lost,omitempty"`
}

// Endpoint is one endpoint of the own cluster.
type Endpoint struct {
	// Key is "SERVICE/PORT/ID", unique among the endpoints.
	Key     string              `json:"key"`
	Service catalog.ServiceName `json:"service"`
	catalog.Endpoint
	// Verdicts are what the gateways' data paths say.
	Verdicts []EndpointVerdict `json:"verdicts,omitempty"`
}

// EndpointVerdict is one gateway's word on one endpoint.
type EndpointVerdict struct {
	Gateway string    `json:"gateway"`
	Healthy bool      `json:"healthy"`
	Reason  string    `json:"reason,omitempty"`
	Since   time.Time `json:"since,omitzero"`
}
