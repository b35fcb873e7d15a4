package route

import (
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// Choice is the outcome of Pick and PickLocal. Only Status, Traffic and Meter are set
// unless Status is OK.
type Choice struct {
	Status Status
	// Mode is for metrics and for care: a choice in SuspectSelf or Panic mode is
	// likely to fail.
	Mode Mode
	// Drill is the part in a drill, Spared why a call of its share is routed as ever: the
	// text of a Status, SparedPanic or SparedRamp. Both are set whatever Status is.
	Drill  DrillSide
	Spared string
	// Target is what outcomes are charged to.
	Target Target
	// Name is the service's name in Target.Cluster (an import may rename it) and
	// Port its port there: what the stream header carries.
	Name catalog.ServiceName
	Port catalog.Port
	// Meter counts what is asked of the port; nil where the port is not known. It is set
	// whatever Status is.
	Meter *Meter
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
	// Forecast and Sizes take how the call went.
	Forecast *Forecast
	Sizes    *Sizes
	// Traffic is the policy that applied; never nil.
	Traffic *policy.Traffic

	candidate *candidate
	bytes     int64 // that Begin counted
}

// Price is what the call's bytes cost on their way.
func (c *Choice) Price() Price {
	if c.candidate == nil {
		return Price{}
	}
	return c.candidate.price
}

// Lanes is how many calls at once the target takes without waiting.
func (c *Choice) Lanes() float64 {
	if c.candidate == nil {
		return 1
	}
	return float64(c.candidate.delay().lanes)
}

// Predict says what the call is expected to take, by the counters of now; rec is the
// record of the decision.
func (c *Choice) Predict(rec *Record) Prediction {
	if c.candidate == nil {
		return Prediction{}
	}
	terms := c.candidate.delay()
	var r reading
	r.look(c.Counters, c.candidate.backlog, rec.request.NowNanos, terms.out)
	return terms.predict(&r, rec.size(c.Sizes))
}
