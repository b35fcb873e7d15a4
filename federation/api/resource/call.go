package resource

import (
	"encoding/json"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// Calls are real calls that the own cluster's gateways kept, the latest first. A
// call from cluster to cluster has a trail on each side; the other cluster's is asked
// for there, by the same IDs.
type Calls struct {
	Cluster catalog.ClusterName `json:"cluster"`
	Trails  []route.Trail       `json:"trails"`
	// Plans are what the decisions of the trails were made by, by the names that those
	// refer to (route.SavedPlan), where it was asked for.
	Plans map[string]json.RawMessage `json:"plans,omitempty"`
	// Unasked are the gateways that could not be asked: what they kept is missing.
	Unasked []UnaskedGateway `json:"unasked,omitempty"`
	// More says that there are more than were asked for.
	More bool `json:"more,omitempty"`
}

// UnaskedGateway is a gateway that gave no answer.
type UnaskedGateway struct {
	Gateway string `json:"gateway"`
	Reason  string `json:"reason"`
}

// CallQuery asks for Calls; an empty field is any.
type CallQuery struct {
	TraceID, RequestID string
	Service            catalog.ServiceName
	// Gateway asks one gateway alone.
	Gateway string
	// Limit is how many; 0 stands for MaxCalls.
	Limit int
	// Saved asks also for what each decision had read, so that it can be repeated
	// elsewhere.
	Saved bool
}

// MaxCalls bounds the trails of one answer, and stands for no limit at all.
const MaxCalls = 100
