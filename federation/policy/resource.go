package policy

import "github.com/isthmus-mesh/isthmus/discovery/catalog"

// Export offers services of this cluster to peers.
type Export struct {
	// Name identifies the rule (DNS label).
	Name string `json:"name" yaml:"name"`
	// Services are exact names or "*.namespace" or "*".
	Services []ServicePattern `json:"services" yaml:"services"`
	// To names the peers; "*" means every peer.
	To []string `json:"to" yaml:"to"`
	// SubsetLabels are the endpoint labels whose values split the summary into
	// subsets; at most 4. Other labels never leave the cluster.
	SubsetLabels []string `json:"subset_labels,omitempty" yaml:"subset_labels,omitempty"`
}

// Import takes services from a peer.
type Import struct {
	Name string `json:"name" yaml:"name"`
	// From is the peer.
	From catalog.ClusterName `json:"from" yaml:"from"`
	// Services are patterns over the peer's names.
	Services []ServicePattern `json:"services" yaml:"services"`
	// Exclude leaves out what Services cover. Where this rule is the one that
	// decides on a service, no other takes it instead.
	Exclude []ServicePattern `json:"exclude,omitempty" yaml:"exclude,omitempty"`
	// As renames one exactly named service; not allowed with a pattern.
	As *catalog.ServiceName `json:"as,omitempty" yaml:"as,omitempty"`
	// Namespaces are the peer's namespaces and what they are called here; those
	// that it does not name keep their names. Several may become one: a service of
	// the peer that is called so itself then goes first, and the others are shown
	// as a conflict. Not allowed with As.
	Namespaces map[string]string `json:"namespaces,omitempty" yaml:"namespaces,omitempty"`
	// MaxCapacity caps the capacity per row that is believed of the peer; 0 is no cap.
	MaxCapacity uint64 `json:"max_capacity,omitempty" yaml:"max_capacity,omitempty"`
}

// Action is what an intention does with a matching call.
type Action string

// The actions of an intention.
const (
	Allow Action = "allow"
	Deny  Action = "deny"
)

// Intention says which callers may call a service that this cluster hosts.
// A deny that matches wins over any allow. No match: callers of another cluster
// are denied, callers of the own cluster allowed unless the service has at
// least one intention.
type Intention struct {
	Name     string           `json:"name" yaml:"name"`
	Services []ServicePattern `json:"services" yaml:"services"`
	// Callers are SPIFFE ID patterns.
	Callers []IDPattern `json:"callers" yaml:"callers"`
	Action  Action      `json:"action" yaml:"action"`
	// HTTP narrows the rule to some requests: those that meet one of the
	// conditions. Where no request is seen (a TCP connection) an allow with
	// conditions allows nothing and a deny with conditions denies.
	HTTP []HTTPCondition `json:"http,omitempty" yaml:"http,omitempty"`
}

// Algorithm chooses inside a tier.
type Algorithm string

// The algorithms. P2C picks the better of two random candidates by predicted
// completion time (peak EWMA x (in flight + 1)) and is the default.
const (
	P2C          Algorithm = "p2c"
	RoundRobin   Algorithm = "round_robin"
	Random       Algorithm = "random"
	Weighted     Algorithm = "weighted"
	LeastRequest Algorithm = "least_request"
	// RingHash and Maglev send calls of one key (Traffic.Sticky) to one place.
	RingHash Algorithm = "ring_hash"
	Maglev   Algorithm = "maglev"
)

// Traffic is how calls from this cluster to a service are balanced.
type Traffic struct {
	Name     string           `json:"name" yaml:"name"`
	Services []ServicePattern `json:"services" yaml:"services"`
	// Algorithm inside a tier; "" means p2c, or maglev with Sticky.
	Algorithm Algorithm `json:"algorithm,omitempty" yaml:"algorithm,omitempty"`
	// Clusters, when set, replaces the tiers by locality: each entry is one
	// tier, in this order. Clusters that are not named are not used.
	Clusters []catalog.ClusterName `json:"clusters,omitempty" yaml:"clusters,omitempty"`
	// Weights splits the load inside a tier between clusters; 0 removes one.
	Weights map[catalog.ClusterName]uint32 `json:"weights,omitempty" yaml:"weights,omitempty"`
	// LabelPriorities, when set, orders clusters by the first of these labels whose
	// value they do not share with the caller's: the later it is, the nearer they are.
	// Clusters of one rank are ordered by locality.
	LabelPriorities []LabelPriority `json:"label_priorities,omitempty" yaml:"label_priorities,omitempty"`
	// Distribute splits calls between localities and clusters, by where they come
	// from. What it does not name stays behind as failover.
	Distribute []Distribution `json:"distribute,omitempty" yaml:"distribute,omitempty"`
	// Residency keeps calls inside of some places, whatever happens.
	Residency *Residency `json:"residency,omitempty" yaml:"residency,omitempty"`
	// Subsets choose parts of the service by labels of its endpoints.
	Subsets *Subsets `json:"subsets,omitempty" yaml:"subsets,omitempty"`
	// Sticky keys, of which the first that a call has counts, keep its calls together;
	// for ring_hash and maglev only.
	Sticky []StickyKey `json:"sticky,omitempty" yaml:"sticky,omitempty"`
	// Hashing sizes ring_hash and maglev.
	Hashing *Hashing `json:"hashing,omitempty" yaml:"hashing,omitempty"`
	// SlowStart of the own cluster's endpoints; nil is none.
	SlowStart *SlowStart `json:"slow_start,omitempty" yaml:"slow_start,omitempty"`
	// Pin sends everything to one cluster, without failover.
	Pin catalog.ClusterName `json:"pin,omitempty" yaml:"pin,omitempty"`
	// DisableFailover keeps calls in the first tier.
	DisableFailover bool `json:"disable_failover,omitempty" yaml:"disable_failover,omitempty"`
	// PanicThreshold in percent of healthy endpoints of a tier below which
	// health is ignored; nil means 50; 0 turns panic off.
	PanicThreshold *uint32 `json:"panic_threshold,omitempty" yaml:"panic_threshold,omitempty"`
	// FailClosed refuses instead of panicking.
	FailClosed bool `json:"fail_closed,omitempty" yaml:"fail_closed,omitempty"`
	// Retries is the most extra attempts of one request; nil means 2.
	Retries *uint32 `json:"retries,omitempty" yaml:"retries,omitempty"`
	// HealthCheck of the own cluster's endpoints; nil means a TCP connect.
	HealthCheck *HealthCheck `json:"health_check,omitempty" yaml:"health_check,omitempty"`
	// Limits are rates, concurrency and breakers; nil limits nothing.
	Limits *Limits `json:"limits,omitempty" yaml:"limits,omitempty"`
	// Capacity of the own cluster's endpoints; nil is not known.
	Capacity *Capacity `json:"capacity,omitempty" yaml:"capacity,omitempty"`
	// Priorities of calls from this cluster, by the first rule that covers a call; what
	// none covers is of the default priority.
	Priorities []PriorityRule `json:"priorities,omitempty" yaml:"priorities,omitempty"`
	// PriceWeight is how many seconds of delay a dollar is worth: the price of a call's
	// expected bytes, times it, is compared on top of its predicted time. 0 leaves prices
	// out of the choice. For p2c only.
	PriceWeight float64 `json:"price_weight,omitempty" yaml:"price_weight,omitempty"`
	// Budget of each of the services; nil is none.
	Budget *Budget `json:"budget,omitempty" yaml:"budget,omitempty"`
}

// HealthCheck is the gateways' active check of their own cluster's endpoints.
type HealthCheck struct {
	// Type is "tcp", "http", "grpc" or "none".
	Type string `json:"type" yaml:"type"`
	// Path of an HTTP check, or the service name of a gRPC check.
	Path string `json:"path,omitempty" yaml:"path,omitempty"`
	// IntervalMS and TimeoutMS are in milliseconds; 0 means 1000 and 500.
	IntervalMS uint32 `json:"interval_ms,omitempty" yaml:"interval_ms,omitempty"`
	TimeoutMS  uint32 `json:"timeout_ms,omitempty" yaml:"timeout_ms,omitempty"`
	// Fall and Rise are consecutive results before a change; 0 means 3 and 2.
	Fall uint32 `json:"fall,omitempty" yaml:"fall,omitempty"`
	Rise uint32 `json:"rise,omitempty" yaml:"rise,omitempty"`
}

// Set is all policy of one cluster; each list is sorted by Name.
type Set struct {
	Exports    []Export    `json:"exports"`
	Imports    []Import    `json:"imports"`
	Intentions []Intention `json:"intentions"`
	Traffic    []Traffic   `json:"traffic_policies"`
}
