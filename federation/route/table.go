package route

import (
	"encoding/json"
	"maps"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// TableFormat is the newest version of Table's JSON form that this build reads,
// MinTableFormat the oldest. A gateway refuses others and keeps what it has.
//
// Format 2 has intentions with HTTP conditions, which a gateway of format 1 would
// read as rules without any. Format 3 has traffic policies with residency, subsets or
// consistent hashes: a gateway of format 2 would let calls out, send them to the wrong
// part of a service or call the whole table invalid. A table without any of these is of
// format 1 (FormatOf).
const (
	TableFormat    = 3
	MinTableFormat = 1
)

// FormatOf is the lowest format in which a table with these rules means what it says.
func FormatOf(intentions []policy.Intention, traffic []policy.Traffic) int {
	for i := range traffic {
		if n := trafficFormat(&traffic[i]); n > 2 {
			return n
		}
	}
	for i := range intentions {
		if len(intentions[i].HTTP) > 0 {
			return 2
		}
	}
	return MinTableFormat
}

func trafficFormat(t *policy.Traffic) int {
	if t != nil && (t.Residency != nil || t.Subsets != nil || len(t.Sticky) > 0 || t.Algorithm.Hashes()) {
		return 3
	}
	return MinTableFormat
}

// Table is what a federation service hands its gateways: everything they need
// to forward, also across a restart with the federation dead. It is immutable
// and ordered (services by name, peers by name).
type Table struct {
	Format int `json:"format"`
	// Epoch and Version order tables of one federation; older is never applied.
	Epoch   uint64  `json:"epoch"`
	Version uint64  `json:"version"`
	Cluster Cluster `json:"cluster"`
	// Federation is the host:port of the own federation's mesh listener: the
	// one endpoint of the reserved service federation.CLUSTER.
	Federation string `json:"federation"`
	// Joining is set while a cluster is invited: gateways then take connections of
	// strangers who come to join, and lead them to Federation.
	Joining bool `json:"joining,omitempty"`
	// Gateways is how many gateways the own cluster has: each uses an even part of a
	// budget that they share until it is told its share. 0 is not known.
	Gateways int `json:"gateways,omitempty"`
	// Tariff is what bytes cost between clusters; nil is not known.
	Tariff *Tariff `json:"tariff,omitempty"`
	// Drill is the one that is under way. A gateway that knows none drills nothing.
	Drill    *Drill    `json:"drill,omitempty"`
	Peers    []Peer    `json:"peers,omitempty"`
	Services []Service `json:"services,omitempty"`
	// Intentions fail closed where they have fields that this build does not know.
	Intentions policy.Intentions `json:"intentions,omitempty"`
}

// Cluster is the own cluster.
type Cluster struct {
	Name     catalog.ClusterName `json:"name"`
	Locality catalog.Locality    `json:"locality"`
	// ID is the federation's SPIFFE ID; the gateways' are ID/gateway/NAME.
	ID string `json:"id"`
	// Labels are the operator's, for policies that rank clusters by labels.
	Labels map[string]string `json:"labels,omitempty"`
}

// Equal reports whether both say the same.
func (c Cluster) Equal(o Cluster) bool {
	return c.Name == o.Name && c.Locality == o.Locality && c.ID == o.ID && maps.Equal(c.Labels, o.Labels)
}

// Peer is another cluster, as the own federation's configuration names it and
// its own federation describes it.
type Peer struct {
	Name     catalog.ClusterName `json:"name"`
	Locality catalog.Locality    `json:"locality"`
	// Labels are what the peer says of itself, and over that what the own
	// configuration says of it. They rank clusters and decide nothing else.
	Labels map[string]string `json:"labels,omitempty"`
	// ID is the peer federation's SPIFFE ID. Only gateways with an ID of
	// ID/gateway/NAME are the peer's.
	ID string `json:"id"`
	// Gateways is the roster; until the peer has sent one, an entry per
	// configured bootstrap address with an empty Name and ID.
	Gateways []catalog.Gateway `json:"gateways,omitempty"`
	// Bundle is the SPIFFE bundle document of the peer's trust domain, where it
	// is not the own one; absent when the Workload API supplies it.
	Bundle json.RawMessage `json:"bundle,omitempty"`
	// Asserts are the caller IDs that the peer's gateways may assert; disjoint
	// between peers.
	Asserts []policy.IDPattern `json:"asserts,omitempty"`
	// MaxPriority is the highest priority that the peer's calls are given; "" is any.
	MaxPriority policy.CallPriority `json:"max_priority,omitempty"`
	// ControlLost is set when the peer's federation has not been heard for its
	// lease (30 s): the catalog is kept, age-stamped by HeardAt.
	ControlLost bool      `json:"control_lost,omitempty"`
	HeardAt     time.Time `json:"heard_at,omitzero"`
}

// Service is one routable service: local endpoints, peers' offers, and policy.
type Service struct {
	Name  catalog.ServiceName `json:"name"`
	Ports []catalog.Port      `json:"ports"`
	// Endpoints are the own cluster's.
	Endpoints []catalog.Endpoint `json:"endpoints,omitempty"`
	// Quarantined are the IDs (sorted) of endpoints to be used last, besides
	// those that are marked as quarantined themselves.
	Quarantined []string `json:"quarantined,omitempty"`
	// ExportedTo names the peers that may reach the own endpoints.
	ExportedTo []catalog.ClusterName `json:"exported_to,omitempty"`
	// SubsetLabels are the keys of labels that exports of the service publish (sorted):
	// peers may ask for subsets by these and by no others.
	SubsetLabels []string        `json:"subset_labels,omitempty"`
	Remote       []Remote        `json:"remote,omitempty"`
	Traffic      *policy.Traffic `json:"traffic,omitempty"`
}

// Remote is one imported offer.
type Remote struct {
	Cluster catalog.ClusterName `json:"cluster"`
	// Name is the service's name in that cluster (an import may rename).
	Name  catalog.ServiceName  `json:"name"`
	Ports []catalog.Port       `json:"ports"`
	Rows  []catalog.SummaryRow `json:"rows,omitempty"`
}
