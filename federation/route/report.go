package route

import (
	"net/netip"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Report is what a gateway tells its own federation every second: who it is,
// what it serves by, and the evidence and counters behind its decisions, so
// that the federation can explain them, count ready endpoints and show links.
type Report struct {
	Gateway catalog.Gateway `json:"gateway"`
	// Control is the host:port of the gateway's control listener (mTLS, HTTP
	// CONNECT), through which the federation reaches its peers.
	Control string `json:"control"`
	// Ways are the listeners by which workloads call, as they are reached.
	Ways []Way `json:"ways,omitempty"`
	// Epoch and Version are the table that the gateway routes by.
	Epoch   uint64    `json:"epoch"`
	Version uint64    `json:"version"`
	At      time.Time `json:"at"`
	// StartedAt and Build identify the process.
	StartedAt time.Time        `json:"started_at"`
	Build     string           `json:"build,omitempty"`
	Locality  catalog.Locality `json:"locality"`
	// Authority is the key ID (hexadecimal) of the root that the gateway's own SVID
	// hangs below, SVIDNotAfter when that SVID ends.
	Authority    string    `json:"authority,omitempty"`
	SVIDNotAfter time.Time `json:"svid_not_after,omitzero"`

	// Switches are set by hand at the gateway, Frozen that it keeps its table;
	// SwitchedBy says who set them, when and why.
	Switches   Switches `json:"switches,omitzero"`
	Frozen     bool     `json:"frozen,omitempty"`
	SwitchedBy string   `json:"switched_by,omitempty"`

	// TakesDrills says that the gateway takes part in drills that name it; Drill is the
	// last that it took part in.
	TakesDrills bool         `json:"takes_drills,omitempty"`
	Drill       *DrillReport `json:"drill,omitempty"`

	Links    []LinkReport    `json:"links,omitempty"`
	Clusters []ClusterReport `json:"clusters,omitempty"`
	Targets  []TargetReport  `json:"targets,omitempty"`
	// Ports are what is asked of ports whose capacity, here or at a peer, is known.
	Ports     []PortReport     `json:"ports,omitempty"`
	Endpoints []EndpointReport `json:"endpoints,omitempty"`
	// Zones are those that are ejected, here or by their own gateways.
	Zones []ZoneReport `json:"zones,omitempty"`
	// Flows are the calls of callers in this cluster since the start.
	Flows []Flow `json:"flows,omitempty"`
	// Askers are who made those calls.
	Askers []Asker `json:"askers,omitempty"`
	// Callers are those whose calls to services of the own cluster were judged since
	// they were reported last; not every report has them. CallersDropped is how many
	// calls were not kept, since the start.
	Callers        []Sighting `json:"callers,omitempty"`
	CallersDropped uint64     `json:"callers_dropped,omitempty"`
	// TakesShares says that the gateway reads an answer with Shares; Demands is what it
	// was asked for of budgets that the cluster's gateways share.
	TakesShares bool     `json:"takes_shares,omitempty"`
	Demands     []Demand `json:"demands,omitempty"`
}

// The kinds of Way.
const (
	WayTCP  = "tcp"
	WayHTTP = "http"
	// WayMesh is for the sidecars of a service mesh alone.
	WayMesh = "mesh"
)

// Way is one way in of a gateway: a TCP listener stands for one service, the HTTP
// listener for all, by authority; a mesh listener for one service, towards sidecars.
type Way struct {
	Kind    string         `json:"kind"`
	Address netip.AddrPort `json:"address"`
	// Service and Port (a name; "" is the only or default one) are a TCP or mesh
	// listener's.
	Service catalog.ServiceName `json:"service,omitzero"`
	Port    string              `json:"port,omitempty"`
	// Mesh is the service's name in the mesh, of a mesh listener.
	Mesh string `json:"mesh,omitempty"`
}

// ClusterReport is the evidence of the links to one cluster, as Compile read it.
type ClusterReport struct {
	Cluster catalog.ClusterName `json:"cluster"`
	LinkEvidence
}

// LinkReport is one link: the connections between two gateways.
type LinkReport struct {
	Cluster catalog.ClusterName `json:"cluster"`
	// Gateway is the peer gateway's name, "" until its hello.
	Gateway string `json:"gateway"`
	Address string `json:"address"`
	// Dialed is true where this gateway opened the link.
	Dialed bool `json:"dialed"`
	// State is "connecting", "up", "draining" or "down"; Reason says why not up.
	State  string    `json:"state"`
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since"`
	// Transport is "quic", or "tls" where UDP does not come through.
	Transport   string        `json:"transport"`
	Connections int           `json:"connections"`
	Streams     int           `json:"streams"`
	RTT         time.Duration `json:"rtt_ns"`
	MinRTT      time.Duration `json:"min_rtt_ns"`
	Jitter      time.Duration `json:"jitter_ns"`
	Loss        float64       `json:"loss"`
	// BandwidthOut and BandwidthIn are the bytes a second that bulk has reached; 0 is
	// not measured.
	BandwidthOut  uint64 `json:"bandwidth_out_bytes_per_second,omitempty"`
	BandwidthIn   uint64 `json:"bandwidth_in_bytes_per_second,omitempty"`
	BytesSent     uint64 `json:"bytes_sent"`
	BytesReceived uint64 `json:"bytes_received"`
	// Expires is when the link closes unless an end proves a newer certificate on
	// it: the earliest end of both ends' certificates. Zero without a link.
	Expires time.Time `json:"expires,omitzero"`
	// PeerNotAfter, PeerSerial and PeerAuthority (the authority key ID; both in
	// hexadecimal) are of the certificate that the peer has proven last.
	PeerNotAfter  time.Time `json:"peer_not_after,omitzero"`
	PeerSerial    string    `json:"peer_serial,omitempty"`
	PeerAuthority string    `json:"peer_authority_key_id,omitempty"`
}

// TargetReport is the evidence and the live counters of one service@cluster.
type TargetReport struct {
	Target       Target        `json:"target"`
	EjectedUntil time.Time     `json:"ejected_until,omitzero"`
	Reason       string        `json:"reason,omitempty"`
	Reported     bool          `json:"reported,omitempty"`
	Ready        uint32        `json:"ready,omitempty"`
	Total        uint32        `json:"total,omitempty"`
	ReportedAt   time.Time     `json:"reported_at,omitzero"`
	Withheld     float64       `json:"withheld,omitempty"`
	InFlight     int64         `json:"in_flight"`
	EWMA         time.Duration `json:"ewma_ns"`
	Requests     uint64        `json:"requests"`
	Failures     uint64        `json:"failures"`
	// Processing and Others are as in TargetEvidence.
	Processing time.Duration `json:"processing_ns,omitempty"`
	Others     uint64        `json:"others_in_flight,omitempty"`
	// MeanRequest and MeanAnswer are the sizes of the port's calls, in bytes.
	MeanRequest float64 `json:"mean_request_bytes,omitempty"`
	MeanAnswer  float64 `json:"mean_answer_bytes,omitempty"`
	// Forecast is how predictions of it came true; nil before the first call.
	Forecast *ForecastReport `json:"forecast,omitempty"`
	// Room is what is known of its capacity; nil is nothing.
	Room *TargetCapacity `json:"room,omitempty"`
}

// PortReport is what is asked of one port through the gateway.
type PortReport struct {
	PortKey
	PortDemand
}

// TargetCapacity is what is known of a target's capacity, in calls at once.
type TargetCapacity struct {
	Capacity uint64 `json:"capacity,omitempty"`
	Spare    uint64 `json:"spare,omitempty"`
	Carried  uint64 `json:"carried,omitempty"`
	Granted  uint64 `json:"granted,omitempty"`
	// What calls of default priority and above, and critical ones alone, have beyond it.
	SpareDefault    uint64    `json:"spare_default,omitempty"`
	SpareCritical   uint64    `json:"spare_critical,omitempty"`
	GrantedDefault  uint64    `json:"granted_default,omitempty"`
	GrantedCritical uint64    `json:"granted_critical,omitempty"`
	GrantedUntil    time.Time `json:"granted_until,omitzero"`
	Share           float64   `json:"share,omitempty"`
}

// GradedSpare is what the target's own callers leave.
func (c *TargetCapacity) GradedSpare() Graded {
	return Graded{c.Spare, c.SpareDefault, c.SpareCritical}
}

// GradedGrant is what is granted to the gateway.
func (c *TargetCapacity) GradedGrant() Graded {
	return Graded{c.Granted, c.GrantedDefault, c.GrantedCritical}
}

// SetSpare is GradedSpare's inverse.
func (c *TargetCapacity) SetSpare(g Graded) {
	c.Spare, c.SpareDefault, c.SpareCritical = g.Any, g.Default, g.Critical
}

// SetGrant is GradedGrant's inverse.
func (c *TargetCapacity) SetGrant(g Graded) {
	c.Granted, c.GrantedDefault, c.GrantedCritical = g.Any, g.Default, g.Critical
}

// EndpointReport is the same for one local endpoint.
type EndpointReport struct {
	Endpoint EndpointKey `json:"endpoint"`
	// Known is false for an endpoint that was called but has no evidence.
	Known        bool          `json:"known,omitempty"`
	Healthy      bool          `json:"healthy"`
	Reason       string        `json:"reason,omitempty"`
	Since        time.Time     `json:"since,omitzero"`
	EjectedUntil time.Time     `json:"ejected_until,omitzero"`
	InFlight     int64         `json:"in_flight"`
	EWMA         time.Duration `json:"ewma_ns"`
	Requests     uint64        `json:"requests"`
	Failures     uint64        `json:"failures"`
}
