package route

import (
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Target is a service's port in a cluster: what outcomes are charged to.
// Service is the caller's name for it (after renaming).
type Target struct {
	Service catalog.ServiceName `json:"service"`
	Port    string              `json:"port"`
	Cluster catalog.ClusterName `json:"cluster"`
}

// EndpointKey is one local endpoint's identity across tables.
type EndpointKey struct {
	Service catalog.ServiceName `json:"service"`
	Port    string              `json:"port"`
	ID      string              `json:"id"`
}

// Evidence is the slow part of what the data path saw: it changes a few times a
// second at most, and each change leads to a Compile. Absent entries mean "no
// evidence", which is not the same as healthy.
type Evidence struct {
	// Now is when the evidence was taken.
	Now       time.Time
	Links     map[catalog.ClusterName]LinkEvidence
	Targets   map[Target]TargetEvidence
	Endpoints map[EndpointKey]EndpointEvidence
}

// LinkEvidence is the state of the links to one cluster (any gateway of it).
type LinkEvidence struct {
	// Up: at least one link carries probes both ways and is not draining.
	Up    bool
	Since time.Time
	RTT   time.Duration
	// Loss is the share of packets lost, 0 to 1, over the last seconds.
	Loss float64
}

// TargetEvidence is what passive outcomes and the far gateway's reports say of
// a service in a cluster.
type TargetEvidence struct {
	// EjectedUntil is zero or when the ejection ends; Reason says what led to it.
	EjectedUntil time.Time
	Reason       string
	// Reported is set when a far gateway has told ready and total on the link's
	// control stream; it is fresher than the summary.
	Reported     bool
	Ready, Total uint32
	ReportedAt   time.Time
}

// EndpointEvidence is the health of a local endpoint from active checks and
// passive outcomes.
type EndpointEvidence struct {
	Healthy bool
	Reason  string
	Since   time.Time
}
