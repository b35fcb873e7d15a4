package route

import (
	"cmp"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// Ledger is the ordered record of one routing decision: what was asked, what
// there was to choose from, what was left out and why, what was drawn, and the
// outcome in words. Its JSON is part of the API.
type Ledger struct {
	Request LedgerRequest `json:"request"`
	Plan    LedgerPlan    `json:"plan"`
	Policy  LedgerPolicy  `json:"policy"`
	Tiers   []LedgerTier  `json:"tiers,omitempty"`
	// Demand is what is asked of the port, where its capacity is known.
	Demand *LedgerDemand `json:"demand,omitempty"`
	// Excluded are clusters and own endpoints that could not be drawn.
	Excluded []Exclusion `json:"excluded,omitempty"`
	// Draws are in order: the tier, the candidate, the endpoint.
	Draws []LedgerDraw `json:"draws,omitempty"`
	// Drill is the part in a drill; nil is none.
	Drill  *LedgerDrill  `json:"drill,omitempty"`
	Status Status        `json:"status"`
	Mode   Mode          `json:"mode"`
	Choice *LedgerChoice `json:"choice,omitempty"`
	// Why says the decision in a sentence; Otherwise what would have made the
	// best of the rejected the choice.
	Why       string `json:"why"`
	Otherwise string `json:"otherwise,omitempty"`
}

// LedgerRequest is the request, as far as it counts.
type LedgerRequest struct {
	Service catalog.ServiceName `json:"service,omitzero"`
	Port    string              `json:"port,omitempty"`
	Pin     catalog.ClusterName `json:"pin,omitempty"`
	// Subset is what the request asks for: a name, or of a call from a peer labels.
	Subset string `json:"subset,omitempty"`
	// Hash is that of its sticky key.
	Hash uint64 `json:"hash,omitempty,string"`
	// Inbound is set for a call from a peer (PickLocal).
	Inbound bool `json:"inbound,omitempty"`
	// Tried are the clusters, or CLUSTER/ENDPOINT, of earlier attempts.
	Tried []string `json:"tried,omitempty"`
	// Priority is left out where it is the default one.
	Priority Priority  `json:"priority,omitempty"`
	Random   uint64    `json:"random,string"`
	At       time.Time `json:"at"`
}

// LedgerPlan names the plan that decided.
type LedgerPlan struct {
	Epoch      uint64              `json:"epoch"`
	Version    uint64              `json:"version"`
	Cluster    catalog.ClusterName `json:"cluster"`
	From       catalog.Locality    `json:"from"`
	EvidenceAt time.Time           `json:"evidence_at"`
	// Alone: not one link to any peer is up.
	Alone bool `json:"alone,omitempty"`
	// Switches are those that were set by hand at the gateway.
	Switches *Switches `json:"switches,omitempty"`
}

// LedgerPolicy is the traffic policy that applied.
type LedgerPolicy struct {
	Name           string                         `json:"name,omitempty"`
	Algorithm      policy.Algorithm               `json:"algorithm"`
	Clusters       []catalog.ClusterName          `json:"clusters,omitempty"`
	Weights        map[catalog.ClusterName]uint32 `json:"weights,omitempty"`
	Pin            catalog.ClusterName            `json:"pin,omitempty"`
	FailoverOff    bool                           `json:"disable_failover,omitempty"`
	PanicThreshold uint32                         `json:"panic_threshold"`
	FailClosed     bool                           `json:"fail_closed,omitempty"`

	LabelPriorities []policy.LabelPriority `json:"label_priorities,omitempty"`
	Distribute      []policy.Distribution  `json:"distribute,omitempty"`
	Residency       *policy.Residency      `json:"residency,omitempty"`
	Subsets         *policy.Subsets        `json:"subsets,omitempty"`
	Sticky          []policy.StickyKey     `json:"sticky,omitempty"`
	Hashing         *policy.Hashing        `json:"hashing,omitempty"`
	SlowStart       *policy.SlowStart      `json:"slow_start,omitempty"`
	// PriceWeight is how many seconds of delay a dollar is worth now; Saving, that the
	// service's budget says so.
	PriceWeight float64 `json:"price_weight,omitempty"`
	Saving      bool    `json:"saving,omitempty"`
	// Limits are what the call would have to pass; they have no part in the choice.
	Limits *policy.Limits `json:"limits,omitempty"`
}

// LedgerTier is one tier; percentages are of 100.
type LedgerTier struct {
	Tier   int     `json:"tier"`
	Name   string  `json:"name"`
	Ready  uint64  `json:"ready"`
	Total  uint64  `json:"total"`
	Health float64 `json:"health_percent"`
	Load   float64 `json:"load_percent"`
	// Panic: health is ignored in this tier; Refused: and the policy says to
	// refuse then.
	Panic   bool `json:"panic,omitempty"`
	Refused bool `json:"refused,omitempty"`
	// RampIgnored: calls have nowhere else to go, so that what is coming back
	// takes more than its ramp would give it.
	RampIgnored bool              `json:"ramp_ignored,omitempty"`
	Candidates  []LedgerCandidate `json:"candidates"`
}

// LedgerCandidate is a service's port in one cluster (of the own: in one zone).
type LedgerCandidate struct {
	Cluster catalog.ClusterName `json:"cluster"`
	Zone    string              `json:"zone,omitempty"`
	// Service and Port are the cluster's own names.
	Service catalog.ServiceName `json:"service"`
	Port    catalog.Port        `json:"port"`
	Ready   uint32              `json:"ready"`
	Total   uint32              `json:"total"`
	// Source says where the counts are from, Age how old they are.
	Source string        `json:"source"`
	Age    time.Duration `json:"age_ns,omitempty"`
	// ControlLost: its federation is not heard, but its link is up.
	ControlLost bool `json:"control_lost,omitempty"`
	Quarantined bool `json:"quarantined,omitempty"`
	// Share is below 100 while it ramps up after an outage.
	Share float64 `json:"share_percent"`
	// Weight is its part of the tier's draws, before the better of two is taken.
	Weight float64 `json:"weight_percent"`
	// Reason is why it is out of service, "" if it is not.
	Reason Reason `json:"reason,omitempty"`
	Score  *Score `json:"score,omitempty"`
	// Forecast is how predictions of it came true lately; nil before the first call, and
	// in a replay.
	Forecast *ForecastReport `json:"forecast,omitempty"`
	// Price is what its bytes cost; nil where no price book is in force.
	Price *Price `json:"price,omitempty"`
	// Room is what is known of its capacity; nil is nothing.
	Room *LedgerRoom `json:"room,omitempty"`
	// Endpoints are the own cluster's, at most MaxLedgerEndpoints.
	Endpoints []LedgerEndpoint `json:"endpoints,omitempty"`
	Omitted   int              `json:"endpoints_omitted,omitempty"`
}

// LedgerEndpoint is one own endpoint that may be drawn.
type LedgerEndpoint struct {
	ID      string `json:"id"`
	Address string `json:"address"`
	Weight  uint32 `json:"weight"`
	Reason  Reason `json:"reason,omitempty"`
	// SlowStart is its part in percent while it is new; 0 is all.
	SlowStart float64 `json:"slow_start_percent,omitempty"`
	Score     *Score  `json:"score,omitempty"`
}

// MaxLedgerEndpoints bounds the endpoints, and the excluded ones, that a ledger
// lists; it is there to be read.
const MaxLedgerEndpoints = 64

// Exclusion is a cluster, a zone of it or an endpoint that was not drawn from.
type Exclusion struct {
	Cluster  catalog.ClusterName `json:"cluster"`
	Zone     string              `json:"zone,omitempty"`
	Endpoint string              `json:"endpoint,omitempty"`
	Reason   Reason              `json:"reason"`
	// Evidence says what led to it, Age since when it holds (0: not known).
	Evidence string        `json:"evidence,omitempty"`
	Age      time.Duration `json:"age_ns,omitempty"`
	Until    time.Time     `json:"until,omitzero"`
}

// LedgerDraw is one step of the choice.
type LedgerDraw struct {
	// Of is "subset", "tier", "cluster" or "endpoint".
	Of string `json:"of"`
	// By is "load", an algorithm, "probation" or "pin"; of a subset "request", "weights"
	// or "fallback".
	By string `json:"by"`
	// At is the drawn point of the load in percent, or the round-robin turn.
	At float64 `json:"at,omitempty"`
	// Among are the items that were drawn, in order, with their costs where they
	// were compared: nanoseconds (p2c) or calls per lane (least_request).
	Among []string  `json:"among,omitempty"`
	Costs []float64 `json:"costs,omitempty"`
	Taken string    `json:"taken"`
	// Hash is set of a draw by a key.
	Hash *LedgerHash `json:"hash,omitempty"`
}

// LedgerChoice is the outcome.
type LedgerChoice struct {
	Tier     int                 `json:"tier"`
	Cluster  catalog.ClusterName `json:"cluster"`
	Zone     string              `json:"zone,omitempty"`
	Service  catalog.ServiceName `json:"service"`
	Port     catalog.Port        `json:"port"`
	Endpoint string              `json:"endpoint,omitempty"`
	Address  string              `json:"address,omitempty"`
	// Subset is the labels of the part that it goes to.
	Subset string `json:"subset,omitempty"`
}

func (x Exclusion) compare(o Exclusion) int {
	return cmp.Or(cmp.Compare(x.Cluster, o.Cluster), cmp.Compare(x.Zone, o.Zone), cmp.Compare(x.Endpoint, o.Endpoint))
}
