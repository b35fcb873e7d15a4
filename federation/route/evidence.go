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
	Now time.Time
	// Self is where the deciding gateway runs, zone included; zero means the
	// locality of its cluster. Tiers are distances from here.
	Self  catalog.Locality
	Links map[catalog.ClusterName]LinkEvidence
	// Switches are set by hand at the deciding gateway.
	Switches  Switches
	Targets   map[Target]TargetEvidence
	Endpoints map[EndpointKey]EndpointEvidence
	// Zones are those of the own cluster that outcomes speak against, and those of peers
	// that their gateways leave out.
	Zones map[ZoneKey]ZoneEvidence
	// Demands are what is asked of each port whose capacity, here or at a peer, is
	// known.
	Demands map[PortKey]PortDemand
}

// LinkEvidence is the state of the links to one cluster (any gateway of it).
type LinkEvidence struct {
	// Up: at least one link carries probes both ways and is not draining.
	Up bool `json:"up"`
	// Draining: not Up only because every gateway of the peer that answers is
	// draining. It says whom to blame: an order, not a fault.
	Draining bool `json:"draining,omitempty"`
	// Since is when Up or Draining last changed.
	Since time.Time `json:"since,omitzero"`
	// RTT is the smoothed round-trip time of the best link; 0 is not measured.
	RTT time.Duration `json:"rtt_ns,omitempty"`
	// Distance is RTT held steady by a Distance filter: what the tiers beyond the
	// region are made of, so that noise moves no cluster between them. 0 means
	// RTT. It is kept while the link is down.
	Distance time.Duration `json:"distance_ns,omitempty"`
	// BandwidthOut and BandwidthIn are the bytes a second that bulk has reached on the
	// best link, towards the cluster and from it; 0 is not measured.
	BandwidthOut uint64 `json:"bandwidth_out_bytes_per_second,omitempty"`
	BandwidthIn  uint64 `json:"bandwidth_in_bytes_per_second,omitempty"`
	// Loss is the share of packets lost, 0 to 1, over the last seconds.
	Loss float64 `json:"loss,omitempty"`
	// Withheld is the part of the cluster's load, 0 to 1, that its fail-back
	// Ramp still holds back; 0 is a cluster in full service.
	Withheld float64 `json:"withheld,omitempty"`
}

// TargetEvidence is what passive outcomes and the far gateway's reports say of
// a service in a cluster.
type TargetEvidence struct {
	// EjectedUntil is zero or when the ejection ends; Reason says what led to it.
	// A time that has passed is a target on probation (half open): one real
	// request is let through, and its outcome decides (see Ejector).
	EjectedUntil time.Time
	Reason       string
	// Reported is set when a far gateway has told ready and total on the link's
	// control stream; it is fresher than the summary.
	Reported     bool
	Ready, Total uint32
	ReportedAt   time.Time
	// Capacity is how many calls at once a peer's gateways can carry to ready
	// endpoints; 0 is not known. Spare is what its own callers leave of it, to peers'
	// calls that are no less important than they, InFlight what it carries now, Granted
	// this gateway's part of the spare until GrantedUntil.
	Capacity, InFlight uint64
	Spare, Granted     Graded
	GrantedUntil       time.Time
	// Share is, of a target in the own cluster, the part of its capacity that this
	// gateway uses; 0 is all.
	Share float64
	// Processing is how long the target's endpoints take for a call that does not
	// wait, as its gateways tell, of the own cluster as measured here; 0 is not known.
	// Others are the calls in progress there that are not this gateway's.
	Processing time.Duration
	Others     uint64
	// Withheld is the part of the target's load, 0 to 1, that its fail-back Ramp
	// still holds back; 0 is a target in full service.
	Withheld float64
}

// EndpointEvidence is the health of a local endpoint from active checks and
// passive outcomes.
type EndpointEvidence struct {
	Healthy bool
	Reason  string
	Since   time.Time
	// EjectedUntil is as for a target: zero, or the end of an ejection by
	// passive outcomes; once passed the endpoint is on probation. Only an
	// endpoint without active checks needs it (a check probes by itself).
	EjectedUntil time.Time
}
