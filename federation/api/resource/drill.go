package resource

import (
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// DrillRequest orders a drill.
type DrillRequest struct {
	// Down are clusters, regions (CLOUD/REGION) or clouds that count as lost for the calls
	// of the share. Of the own cluster the endpoints do.
	Down []string `json:"down,omitempty" maxItems:"64"`
	// Zones are zones, CLOUD/REGION/ZONE, that count as lost.
	Zones []string `json:"zones,omitempty" maxItems:"64"`
	// Services are those that are drilled; all where there are none.
	Services []catalog.ServiceName `json:"services,omitempty" maxItems:"64"`
	// Share is the part of the calls: "5%" or "0.05".
	Share string `json:"share" maxLength:"32"`
	// For is how long it lasts, such as "10m".
	For string `json:"for" maxLength:"32"`
	// Moment is "settled" (when the loss is old; the default) or "at_once" (in its first
	// minute).
	Moment string `json:"moment,omitempty" enum:"settled,at_once"`
	// Beyond lets Share be more than 10 %.
	Beyond bool `json:"beyond,omitempty"`
}

// The states of a drill.
const (
	// DrillPlanned is that of a dry run: nothing is drilled.
	DrillPlanned = "planned"
	DrillRunning = "running"
	// DrillEnding: no call is drilled any more, and the last counts are awaited.
	DrillEnding  = "ending"
	DrillOver    = "over"
	DrillStopped = "stopped"
	DrillAborted = "aborted"
)

// Drill is one drill: what was ordered, what was predicted, what was observed.
type Drill struct {
	// ID is "" of a dry run.
	ID      string              `json:"id"`
	Cluster catalog.ClusterName `json:"cluster"`
	// State is "planned" (a dry run), "running", "ending", "over", "stopped" or "aborted".
	State string `json:"state"`
	// Down are the clusters that the places of the order mean.
	Down     []catalog.ClusterName `json:"down,omitempty"`
	Zones    []string              `json:"zones,omitempty"`
	Services []catalog.ServiceName `json:"services,omitempty"`
	// Share is of 100.
	Share     float64       `json:"share_percent"`
	For       time.Duration `json:"for_ns"`
	Moment    string        `json:"moment"`
	Principal string        `json:"principal,omitempty"`
	Reason    string        `json:"reason,omitempty"`
	StartedAt time.Time     `json:"started_at,omitzero"`
	Until     time.Time     `json:"until,omitzero"`
	EndedAt   time.Time     `json:"ended_at,omitzero"`
	// End is why it ended, a word; Detail says it with figures, EndedBy who stopped it.
	End     string `json:"end,omitempty"`
	Detail  string `json:"detail,omitempty"`
	EndedBy string `json:"ended_by,omitempty"`
	// Gateways are those that take part.
	Gateways []DrillGateway `json:"gateways"`
	Report   DrillReport    `json:"report"`
	// Simulation is what isthmus simulate says, of a dry run alone.
	Simulation *Simulation `json:"simulation,omitempty"`
}

// Ended reports whether it is all over.
func (d *Drill) Ended() bool {
	return d.State == DrillOver || d.State == DrillStopped || d.State == DrillAborted
}

// DrillGateway is one gateway's part.
type DrillGateway struct {
	Name      string    `json:"name"`
	StartedAt time.Time `json:"started_at"`
	// State is "waiting" (it has not said that it takes part), "running" or "ended".
	State  string `json:"state"`
	End    string `json:"end,omitempty"`
	Detail string `json:"detail,omitempty"`
	Calls  uint64 `json:"drilled_calls"`
}

// DrillReport is predicted against observed.
type DrillReport struct {
	// Drilled are the calls that were routed as if the places were lost, Others those to
	// the same services that were not. Spared are of the share, but would have gone
	// nowhere, and were routed as ever.
	Drilled DrillCalls    `json:"drilled"`
	Others  DrillCalls    `json:"others"`
	Spared  []DrillSpared `json:"spared,omitempty"`
	// Split is where the drilled calls, the spared ones included, went and were predicted
	// to go; Error is the largest difference in percentage points, and Noise how large it
	// is by chance alone in one case of twenty.
	Split []DrillPart `json:"split"`
	Error float64     `json:"error_points"`
	Noise float64     `json:"noise_points"`
	// Services are the most called.
	Services []DrillService `json:"services"`
}

// DrillCalls are calls by how their first attempts went.
type DrillCalls struct {
	Calls  uint64 `json:"calls"`
	Failed uint64 `json:"failed"`
	Late   uint64 `json:"late"`
	// Took is the mean time to the first answer.
	Took time.Duration `json:"took_ns,omitempty"`
}

// DrillSpared counts calls that were spared for one reason: the status that they would
// have ended with, or "panic".
type DrillSpared struct {
	Reason string `json:"reason"`
	Calls  uint64 `json:"calls"`
}

// DrillPart is one destination.
type DrillPart struct {
	// Cluster is "" of calls that would go nowhere.
	Cluster catalog.ClusterName `json:"cluster,omitempty"`
	// Predicted and Observed are of 100.
	Predicted float64 `json:"predicted_percent"`
	Observed  float64 `json:"observed_percent"`
	// PredictedTook is absent where it is not known; Estimated says that it is made of the
	// round trip and what the service takes elsewhere.
	PredictedTook time.Duration `json:"predicted_took_ns,omitempty"`
	Estimated     bool          `json:"estimated,omitempty"`
	DrillCalls
}

// DrillService is one service's port.
type DrillService struct {
	Service catalog.ServiceName `json:"service"`
	Port    string              `json:"port,omitempty"`
	Drilled DrillCalls          `json:"drilled"`
	Others  DrillCalls          `json:"others"`
	Split   []DrillPart         `json:"split"`
	Error   float64             `json:"error_points"`
	Noise   float64             `json:"noise_points"`
}

// Drills are the drills that are remembered, the youngest first.
type Drills struct {
	Items []Drill `json:"items"`
}
