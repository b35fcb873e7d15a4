package resource

import (
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/price"
)

// Simulation is what would become of the calls of the own cluster's callers.
type Simulation struct {
	Cluster catalog.ClusterName `json:"cluster"`
	// RecordedAt is when the evidence and the demand were taken.
	RecordedAt time.Time `json:"recorded_at"`
	// Down are the clusters that are supposed to be dead.
	Down     []catalog.ClusterName `json:"down,omitempty"`
	Clusters []SimulatedCluster    `json:"clusters"`
	// Services are those that were called, by service, port and gateway.
	Services []SimulatedService `json:"services"`
	Breaks   []SimulatedBreak   `json:"breaks,omitempty"`
	// SpendBefore and SpendSettled are dollars a month by the price book, should the
	// demand stay what it is.
	SpendBefore  float64 `json:"spend_before_dollars_per_month"`
	SpendSettled float64 `json:"spend_settled_dollars_per_month"`
	// Unknown says what could not be worked out, and why.
	Unknown []string `json:"unknown,omitempty"`
}

// SimulateRequest is what is supposed.
type SimulateRequest struct {
	// Down are clusters, regions (CLOUD/REGION) or clouds that are dead.
	Down []string `json:"down,omitempty" maxItems:"64"`
	// Capacity is what is left of places: PLACE=SHARE.
	Capacity []string `json:"capacity,omitempty" maxItems:"64"`
	// TrafficPolicies take the place of those of their names, or are added.
	TrafficPolicies []policy.Traffic `json:"traffic_policies,omitempty" maxItems:"256"`
	// Prices are a price book that holds instead of the one in force.
	Prices *price.Book `json:"price_book,omitempty"`
}

// SimulatedCluster is what a cluster would carry of the own callers' calls.
type SimulatedCluster struct {
	Cluster  catalog.ClusterName `json:"cluster"`
	Locality catalog.Locality    `json:"locality"`
	Down     bool                `json:"down,omitempty"`
	// Before, AtOnce and Settled are calls per second.
	Before  float64 `json:"before_per_second"`
	AtOnce  float64 `json:"at_once_per_second"`
	Settled float64 `json:"settled_per_second"`
	// BytesBefore and BytesSettled are bytes per second, both ways.
	BytesBefore  float64 `json:"bytes_before_per_second"`
	BytesSettled float64 `json:"bytes_settled_per_second"`
	// SpendBefore and SpendSettled are what those bytes cost.
	SpendBefore  float64 `json:"spend_before_dollars_per_month"`
	SpendSettled float64 `json:"spend_settled_dollars_per_month"`
}

// SimulatedService is one service's port as one gateway's callers call it.
type SimulatedService struct {
	Service catalog.ServiceName `json:"service"`
	Port    string              `json:"port,omitempty"`
	Gateway string              `json:"gateway"`
	// PerSecond is how often it is called.
	PerSecond float64         `json:"calls_per_second"`
	Before    []SimulatedPart `json:"before"`
	AtOnce    []SimulatedPart `json:"at_once"`
	Settled   []SimulatedPart `json:"settled"`
	// SpendBefore and SpendSettled are what it costs.
	SpendBefore  float64 `json:"spend_before_dollars_per_month"`
	SpendSettled float64 `json:"spend_settled_dollars_per_month"`
	// Shed are the callers that lose calls, those that lose most first.
	Shed []SimulatedShed `json:"shed,omitempty"`
}

// SimulatedShed is whose calls go nowhere.
type SimulatedShed struct {
	// Caller is a SPIFFE ID; "" where it is not known, or of all that are not told apart.
	Caller    string  `json:"caller,omitempty"`
	Priority  string  `json:"priority"`
	PerSecond float64 `json:"calls_per_second"`
	// Before, AtOnce and Settled are the parts of its calls that are refused.
	Before  float64 `json:"before_percent"`
	AtOnce  float64 `json:"at_once_percent"`
	Settled float64 `json:"settled_percent"`
}

// SimulatedPart is where a part of the calls goes.
type SimulatedPart struct {
	// Cluster is "" of calls that go nowhere; Status says why then.
	Cluster catalog.ClusterName `json:"cluster,omitempty"`
	Status  string              `json:"status"`
	// Share is of 100, InPanic the part of 100 that is chosen without regard to health.
	Share   float64 `json:"share_percent"`
	InPanic float64 `json:"in_panic_percent,omitempty"`
	// Took is how long those calls take to their first answer; absent where nothing was
	// measured. Estimated says that it is made of the round trip and what the service
	// takes elsewhere.
	Took      time.Duration `json:"took_ns,omitempty"`
	Estimated bool          `json:"estimated,omitempty"`
	// Ready is how many endpoints there are to carry them, PerEndpoint the calls per
	// second of these callers on each.
	Ready       uint32  `json:"ready,omitempty"`
	PerEndpoint float64 `json:"calls_per_second_per_endpoint,omitempty"`
	// Spend is what those calls cost; Unpriced, that a price of it is not known.
	Spend    float64 `json:"spend_dollars_per_month,omitempty"`
	Unpriced bool    `json:"unpriced,omitempty"`
}

// SimulatedBreak is what would go wrong.
type SimulatedBreak struct {
	Service catalog.ServiceName `json:"service"`
	Port    string              `json:"port,omitempty"`
	Gateway string              `json:"gateway"`
	// When is "at_once" or "settled".
	When string `json:"when"`
	// What is "refused" (calls go nowhere, by the status in Reason), "panic" (health is
	// not looked at any more) or "overload" (an endpoint carries several times as much).
	What   string  `json:"what"`
	Reason string  `json:"reason"`
	Share  float64 `json:"share_percent"`
}
