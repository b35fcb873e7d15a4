package route

import (
	"cmp"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// MaxDrillRows bounds the rows of a gateway's account of a drill.
const MaxDrillRows = 4096

// DrillReport is what a gateway says of its part in a drill.
type DrillReport struct {
	ID string `json:"id"`
	// Running: calls are drilled now. Once it is false it stays so.
	Running   bool      `json:"running"`
	StartedAt time.Time `json:"started_at"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
	// Reason is why it ended; Detail says it with figures.
	Reason DrillEnd   `json:"reason,omitempty"`
	Detail string     `json:"detail,omitempty"`
	Rows   []DrillRow `json:"rows,omitempty"`
}

// DrillEnd is why a gateway's part in a drill ended: a closed vocabulary.
type DrillEnd string

// The ends. Those but DrillOver and DrillWithdrawn are aborts.
const (
	// DrillOver: its time is over.
	DrillOver DrillEnd = "over"
	// DrillWithdrawn: the federation has taken it out of the table.
	DrillWithdrawn DrillEnd = "withdrawn"
	// DrilledWorse: drilled calls fail, or are late, significantly more often than others.
	DrilledWorse DrillEnd = "drilled_worse"
	// OthersFail: calls that are not drilled fail or are late.
	OthersFail DrillEnd = "others_fail"
	// DrillLinkDown: a link to a cluster went down or drains that was up at the start.
	DrillLinkDown DrillEnd = "link_down"
	// DrillEjected: a service in a cluster was ejected.
	DrillEjected DrillEnd = "ejected"
	// DrillSilence: the federation has taken no report for DrillLease.
	DrillSilence DrillEnd = "federation_silent"
	// DrillSwitched: an operator has set a switch at the gateway.
	DrillSwitched DrillEnd = "switched"
	// DrillStopped: the gateway stops.
	DrillStopped DrillEnd = "gateway_stops"
)

// Aborts reports whether it is an abort.
func (e DrillEnd) Aborts() bool { return e != "" && e != DrillOver && e != DrillWithdrawn }

// DrillRow counts the first attempts of calls that a drill concerned, by where they went.
type DrillRow struct {
	Service catalog.ServiceName `json:"service"`
	Port    string              `json:"port"`
	Side    DrillSide           `json:"side"`
	// Cluster is "" of calls that went nowhere; Spared is why calls were spared.
	Cluster catalog.ClusterName `json:"cluster,omitempty"`
	Spared  string              `json:"spared,omitempty"`
	// Calls were begun. Of those that have ended, Failed got no answer or a failure, and
	// Late took longer than they may; Answered got one after AnsweredTotal together.
	Calls         uint64        `json:"calls"`
	Failed        uint64        `json:"failed,omitempty"`
	Late          uint64        `json:"late,omitempty"`
	Answered      uint64        `json:"answered"`
	AnsweredTotal time.Duration `json:"answered_total_ns"`
}

// Compare orders rows.
func (r DrillRow) Compare(o DrillRow) int {
	return cmp.Or(r.Service.Compare(o.Service), cmp.Compare(r.Port, o.Port), cmp.Compare(r.Side, o.Side), cmp.Compare(r.Cluster, o.Cluster), cmp.Compare(r.Spared, o.Spared))
}
