package resource

import (
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Source is one source of the own catalog.
type Source struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	// State is "starting", "ok", "stale", "failing" or "quarantined".
	State       string        `json:"state"`
	Error       string        `json:"error,omitempty"`
	LastSuccess time.Time     `json:"last_success,omitzero"`
	Age         time.Duration `json:"age_ns" doc:"Nanoseconds since the last complete read."`
	Version     uint64        `json:"version"`
	Services    int           `json:"services"`
	Endpoints   int           `json:"endpoints"`
	// Refused counts endpoints of the last read whose address is not allowed.
	Refused int `json:"refused,omitempty" doc:"Endpoints of the last read whose address the source may not publish."`
	// Quarantined are the first of the withdrawals that the guard holds back,
	// "SERVICE/ENDPOINT".
	Quarantined      []string `json:"quarantined,omitempty" doc:"The first withdrawals that the guard holds back until they are confirmed or released."`
	QuarantinedCount int      `json:"quarantined_count,omitempty"`
}

// Event is one entry of the journal: what changed, and why.
type Event struct {
	// Sequence orders the journal; it starts anew with each process.
	Sequence uint64    `json:"sequence"`
	At       time.Time `json:"at"`
	Kind     string    `json:"kind" doc:"Closed vocabulary, such as peer_state or policy_changed."`
	// Cause says whose doing it is; Subject names which.
	Cause   string              `json:"cause" enum:"source,gateway,peer,rule,operator,config,process" doc:"Whose doing it is."`
	Subject string              `json:"subject" doc:"What it happened to."`
	Cluster catalog.ClusterName `json:"cluster"`
	Reason  string              `json:"reason,omitempty"`
}

// Version is GET /v1/version.
type Version struct {
	API     string              `json:"api" doc:"Version of the API."`
	Build   string              `json:"build"`
	Cluster catalog.ClusterName `json:"cluster"`
	ID      string              `json:"id"`
	// Epoch and TableVersion are those of the route table that gateways are given.
	Epoch        uint64    `json:"epoch"`
	TableVersion uint64    `json:"table_version"`
	StartedAt    time.Time `json:"started_at"`
	// Degraded is what an operator must look at although everything is served,
	// such as a store that was damaged and rebuilt.
	Degraded []string `json:"degraded,omitempty"`
}
