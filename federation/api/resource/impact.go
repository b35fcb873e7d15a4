package resource

import (
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// MaxImpact bounds each list of an Impact: a person reads the first ones and the
// total, a program counts by the total.
const MaxImpact = 100

// DryRun is what a write with dry_run=true answers: nothing is written.
type DryRun[R any] struct {
	// Item is the resource as it would be stored; absent for a deletion.
	Item *R `json:"item,omitempty" doc:"The resource as it would be stored; absent for a deletion."`
	// Would is what the write would change.
	Would Impact `json:"would"`
}

// Impact is what a write would change, for whom, judged by what is known at the
// moment of the question. An empty one changes nothing for anybody.
type Impact struct {
	// Services are rows of the own gateways' route table that would change.
	Services []ServiceImpact `json:"services,omitempty" doc:"What would change in the route table of the own gateways."`
	// Peers are the clusters that would be told something else.
	Peers []PeerImpact `json:"peers,omitempty" doc:"What peers would be told."`
	// Callers are those seen lately whose calls would be judged differently.
	Callers []CallerImpact `json:"callers,omitempty" doc:"Callers seen lately whose calls would be judged differently."`
	// The totals count everything; a list has at most MaxImpact of it.
	ServicesTotal int `json:"services_total,omitempty"`
	PeersTotal    int `json:"peers_total,omitempty"`
	CallersTotal  int `json:"callers_total,omitempty"`
	// Truncated is set where a list is shorter than its total.
	Truncated bool `json:"truncated,omitempty" doc:"A list is shorter than its total."`
	// Unknown says what could not be judged, such as "no gateway has reported".
	Unknown []string `json:"unknown,omitempty" doc:"What could not be judged, and why."`
}

// IsZero reports whether nothing would change and everything could be judged.
func (i Impact) IsZero() bool {
	return i.ServicesTotal == 0 && i.PeersTotal == 0 && i.CallersTotal == 0 && len(i.Unknown) == 0
}

// ImpactChange says what becomes of something.
type ImpactChange string

// The changes.
const (
	ImpactAdded   ImpactChange = "added"
	ImpactRemoved ImpactChange = "removed"
	ImpactChanged ImpactChange = "changed"
)

// ServiceImpact is one service of the own route table that would change.
type ServiceImpact struct {
	Service catalog.ServiceName `json:"service"`
	Change  ImpactChange        `json:"change" enum:"added,removed,changed"`
	// Fields are the parts of the row that differ: "ports", "endpoints",
	// "exported_to", "subset_labels", "remote", "traffic"; or what becomes of the own cluster's callers
	// that no intention allows (FieldDefaultDeny, FieldDefaultAllow).
	Fields []string `json:"fields,omitempty" doc:"Parts of the row that differ: ports, endpoints, exported_to, subset_labels, remote, traffic."`
	// Clusters are the clusters whose offers of it come, go or change.
	Clusters []catalog.ClusterName `json:"clusters,omitempty" doc:"Clusters whose offers of it would come, go or change."`
}

// The fields of a ServiceImpact that intentions change: a service that they cover is
// closed to callers of the own cluster that none of them allows, one that they do not
// is open to them.
const (
	FieldDefaultDeny  = "default_deny"
	FieldDefaultAllow = "default_allow"
)

// PeerImpact is one peer that would be told something else, or would come or go.
type PeerImpact struct {
	Peer   catalog.ClusterName `json:"peer"`
	Change ImpactChange        `json:"change" enum:"added,removed,changed"`
	// Fields are the parts of the peer's entry that differ, where it is the peer
	// that is written: "id", "gateways", "asserts", "bundle" ...
	Fields []string `json:"fields,omitempty" doc:"Parts of the peer's own entry that differ."`
	// Offered are the services that it would be offered from now on, no longer, or
	// with another summary; OfferedTotal counts them all.
	Offered      []OfferImpact `json:"offered,omitempty"`
	OfferedTotal int           `json:"offered_total,omitempty"`
}

// OfferImpact is one service in what a peer is told.
type OfferImpact struct {
	Service catalog.ServiceName `json:"service"`
	Change  ImpactChange        `json:"change" enum:"added,removed,changed"`
}

// CallerImpact is one caller, seen lately, whose calls to one service would be
// judged differently.
type CallerImpact struct {
	// Caller is its SPIFFE ID, Cluster the one that spoke for it.
	Caller  string              `json:"caller"`
	Cluster catalog.ClusterName `json:"cluster"`
	Service catalog.ServiceName `json:"service"`
	// Method and Path are set where conditions on HTTP decide.
	Method string `json:"method,omitempty"`
	Path   string `json:"path,omitempty"`
	// Before and After are the verdicts, BeforeRule and AfterRule the intentions
	// that give them ("" is the default of calls that nothing matches).
	Before     string `json:"before" enum:"allow,deny"`
	After      string `json:"after" enum:"allow,deny"`
	BeforeRule string `json:"before_rule,omitempty"`
	AfterRule  string `json:"after_rule,omitempty"`
	// Possible is set where it depends on what is not kept of a call: its header fields
	// and the rest of its path ("*").
	Possible bool `json:"possible,omitempty" doc:"Depends on header fields or on the rest of the path, which are not kept."`
	// Calls were seen until LastSeen, in the window that gateways report.
	Calls    uint64    `json:"calls" doc:"Calls in the window that gateways report."`
	LastSeen time.Time `json:"last_seen,omitzero"`
}
