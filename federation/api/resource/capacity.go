package resource

import (
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// MaxCapacities bounds the rows of an answer.
const MaxCapacities = 10_000

// Capacities say what each cluster can take of services, and what it carries, as the own
// cluster's gateways know it.
type Capacities struct {
	At time.Time `json:"at"`
	// Gateways are those of the own cluster whose reports it is read from.
	Gateways int               `json:"gateways"`
	Items    []ClusterCapacity `json:"items" nullable:"false"`
	Total    int               `json:"total" doc:"How many rows there are; items has at most 10000 of them."`
}

// ClusterCapacity is one port of a service in one cluster. Capacity, spare and granted are in
// calls at once, and absent where they are not known.
type ClusterCapacity struct {
	Service catalog.ServiceName `json:"service"`
	Port    string              `json:"port"`
	Cluster catalog.ClusterName `json:"cluster"`
	// Own says that it is the cluster that answers.
	Own   bool   `json:"own,omitempty"`
	Ready uint64 `json:"ready"`
	Total uint64 `json:"total"`
	// InFlight is what the cluster carries now; of a peer that does not tell it is Ours.
	InFlight uint64 `json:"in_flight"`
	// Ours is what of it the own gateways have under way there.
	Ours     uint64 `json:"ours_in_flight"`
	Capacity uint64 `json:"capacity,omitempty" doc:"Of ready endpoints."`
	Spare    uint64 `json:"spare,omitempty" doc:"Of a peer what its own callers leave, as it tells; of the own cluster what is not in flight."`
	Granted  uint64 `json:"granted,omitempty" doc:"What the peer grants the own gateways together."`
	// Known says that the capacity is known: spare and granted may then be 0.
	Known bool `json:"known"`
}
