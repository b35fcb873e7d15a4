package route

import (
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// Choice is the outcome of Pick and PickLocal. Only Status and Traffic are set
// unless Status is OK.
type Choice struct {
	Status Status
	// Mode is for metrics and for care: a choice in SuspectSelf or Panic mode is
	// likely to fail.
	Mode Mode
	// Target is what outcomes are charged to.
	Target Target
	// Name is the service's name in Target.Cluster (an import may rename it) and
	// Port its port there: what the stream header carries.
	Name catalog.ServiceName
	Port catalog.Port
	// ZoneCounters are those of the endpoint's zone, where its capacity is known; the
	// caller calls Begin and End or Cancel on them as on Counters.
	ZoneCounters *Counters
	// Subset is the canonical text of the labels of the part that the call goes to, ""
	// for the whole service: what the stream header carries.
	Subset string
	// Endpoint is set where Target.Cluster is the own cluster.
	Endpoint *catalog.Endpoint
	// Counters are the target's and EndpointCounters the endpoint's (nil without
	// an Endpoint). The caller calls Begin and then End or Cancel on both.
	Counters         *Counters
	EndpointCounters *Counters
	// Traffic is the policy that applied; never nil.
	Traffic *policy.Traffic
}
