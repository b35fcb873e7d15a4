package policy

import "github.com/isthmus-mesh/isthmus/discovery/catalog"

// LabelPriority is an entry of Traffic.LabelPriorities: "label", which asks that a
// cluster have the value that the caller's has, or "label=value". Labels are cloud,
// region, zone and cluster, and those that operators give to clusters.
type LabelPriority string

// The labels that every cluster has.
const (
	LabelCloud   = "cloud"
	LabelRegion  = "region"
	LabelZone    = "zone"
	LabelCluster = "cluster"
)

// Distribution splits the calls that come from some localities.
type Distribution struct {
	// From is the locality of the gateway that decides: "cloud", "cloud/region",
	// "cloud/region/zone", or "*". The most exact entry holds.
	From string `json:"from" yaml:"from"`
	// To are the shares. What is named nowhere takes calls only when those that are
	// cannot.
	To []Share `json:"to" yaml:"to"`
}

// Share is where a part of the calls goes: a cluster or a locality.
type Share struct {
	Cluster catalog.ClusterName `json:"cluster,omitempty" yaml:"cluster,omitempty"`
	// Locality is written as Distribution.From. Of other clusters cloud and region are
	// known; a zone means endpoints of the own cluster.
	Locality string `json:"locality,omitempty" yaml:"locality,omitempty"`
	// Weight is the part, against the sum of those of the distribution; 0 takes no
	// calls at all.
	Weight uint32 `json:"weight" yaml:"weight"`
}

// Residency names where calls may go; they go nowhere else, whatever happens. A
// place is allowed by any of the lists. Cloud and region of a peer are those that
// this cluster's own configuration gives to it.
type Residency struct {
	Clouds []string `json:"clouds,omitempty" yaml:"clouds,omitempty"`
	// Regions are written "cloud/region".
	Regions  []string              `json:"regions,omitempty" yaml:"regions,omitempty"`
	Clusters []catalog.ClusterName `json:"clusters,omitempty" yaml:"clusters,omitempty"`
}

// Subsets are parts of a service that calls are sent to, by the labels of its
// endpoints.
type Subsets struct {
	// Header is the field of a request whose value names one of List.
	Header string `json:"header,omitempty" yaml:"header,omitempty"`
	// List are the parts. Calls that name none are split by their weights; where no
	// part has a weight, such calls go to the whole service.
	List []Subset `json:"list" yaml:"list"`
	// FallbackAny sends a call to the whole service where no cluster that may be used
	// has its part; else it is refused.
	FallbackAny bool `json:"fallback_any,omitempty" yaml:"fallback_any,omitempty"`
}

// Subset is one part. An export of the cluster that hosts the endpoints must publish
// the labels (Export.SubsetLabels).
type Subset struct {
	Name   string            `json:"name" yaml:"name"`
	Labels map[string]string `json:"labels" yaml:"labels"`
	Weight uint32            `json:"weight,omitempty" yaml:"weight,omitempty"`
}

// StickyKey is what calls are told apart by: one of its fields is set.
type StickyKey struct {
	// Header is a field of the request.
	Header string `json:"header,omitempty" yaml:"header,omitempty"`
	// Cookie of the request.
	Cookie *StickyCookie `json:"cookie,omitempty" yaml:"cookie,omitempty"`
	// Source is "address" (of the caller) or "caller" (its SPIFFE ID).
	Source string `json:"source,omitempty" yaml:"source,omitempty"`
}

// The values of StickyKey.Source.
const (
	SourceAddress = "address"
	SourceCaller  = "caller"
)

// StickyCookie names a cookie.
type StickyCookie struct {
	Name string `json:"name" yaml:"name"`
	// TTLSeconds makes the gateway set the cookie where a request has none; 0 only
	// reads it.
	TTLSeconds uint32 `json:"ttl_s,omitempty" yaml:"ttl_s,omitempty"`
	// Path of the cookie that is set; "" is "/".
	Path string `json:"path,omitempty" yaml:"path,omitempty"`
}

// Hashing are the sizes of the consistent hashes.
type Hashing struct {
	// MinRingSize and MaxRingSize bound the entries of a ring; 0 means 1024 and 65536.
	MinRingSize uint32 `json:"min_ring_size,omitempty" yaml:"min_ring_size,omitempty"`
	MaxRingSize uint32 `json:"max_ring_size,omitempty" yaml:"max_ring_size,omitempty"`
	// TableSize of maglev, a prime number; 0 means 65537, and less for few endpoints.
	TableSize uint32 `json:"table_size,omitempty" yaml:"table_size,omitempty"`
	// BoundPercent is the most calls in progress that one endpoint or cluster gets, in
	// percent of the average; nil means 125, 0 is no bound.
	BoundPercent *uint32 `json:"bound_percent,omitempty" yaml:"bound_percent,omitempty"`
	// BoundLeast is how many calls in progress are never too many; 0 means 10, so that
	// the calls of one key that come at once stay together while there is little to do.
	BoundLeast uint32 `json:"bound_least,omitempty" yaml:"bound_least,omitempty"`
}

// SlowStart gives endpoints that are new, or back, their share step by step.
type SlowStart struct {
	// WindowSeconds is how long it lasts.
	WindowSeconds uint32 `json:"window_s" yaml:"window_s"`
	// Aggression shapes it: the share is (time/window)^(1/aggression); 0 means 1, a
	// straight line.
	Aggression float64 `json:"aggression,omitempty" yaml:"aggression,omitempty"`
	// MinPercent is the least share; 0 means 10.
	MinPercent uint32 `json:"min_percent,omitempty" yaml:"min_percent,omitempty"`
}

// Hashes reports whether the algorithm sends equal keys to equal places.
func (a Algorithm) Hashes() bool { return a == RingHash || a == Maglev }
