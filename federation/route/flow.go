package route

import (
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Flow counts the calls of a gateway's own callers to one service that one cluster
// served, since the gateway started.
type Flow struct {
	Service catalog.ServiceName `json:"service"`
	// Port is a port's name, as callers gave it.
	Port string `json:"port,omitempty"`
	// Cluster is "" of calls that went nowhere.
	Cluster catalog.ClusterName `json:"cluster,omitempty"`
	// Calls ended, of which Failed got no answer, a broken one, or a status of 500 and
	// above; Answered got a first word, after AnsweredTotal together.
	Calls         uint64        `json:"calls"`
	Failed        uint64        `json:"failed,omitempty"`
	Answered      uint64        `json:"answered"`
	AnsweredTotal time.Duration `json:"answered_total_ns"`
	// Sent and Received are payload bytes.
	Sent     uint64 `json:"sent_bytes"`
	Received uint64 `json:"received_bytes"`
	// SpentOut and SpentIn are what those bytes cost, in dollars, by the prices of when
	// they moved. Unpriced bytes are of paths whose price was not known: they cost 0.
	SpentOut float64 `json:"spent_out_dollars,omitempty"`
	SpentIn  float64 `json:"spent_in_dollars,omitempty"`
	Unpriced uint64  `json:"unpriced_bytes,omitempty"`
}

// Since is what was counted after an earlier count of the same flow.
func (f Flow) Since(before Flow) Flow {
	if f.Calls < before.Calls || f.Sent < before.Sent || f.Received < before.Received {
		return f // counted anew
	}
	f.Calls -= before.Calls
	f.Failed -= min(before.Failed, f.Failed)
	f.Answered -= min(before.Answered, f.Answered)
	f.AnsweredTotal = max(f.AnsweredTotal-before.AnsweredTotal, 0)
	f.Sent -= before.Sent
	f.Received -= before.Received
	f.SpentOut = max(f.SpentOut-before.SpentOut, 0)
	f.SpentIn = max(f.SpentIn-before.SpentIn, 0)
	f.Unpriced -= min(before.Unpriced, f.Unpriced)
	return f
}

// Mean is the time to the first word, 0 if there was none.
func (f Flow) Mean() time.Duration {
	if f.Answered == 0 {
		return 0
	}
	return f.AnsweredTotal / time.Duration(f.Answered)
}

// MaxAskers bounds the askers of a report that are told apart.
const MaxAskers = 2000

// Asker counts the calls of one caller in the gateway's cluster, of one priority, to
// one port of a service since the gateway started, whatever became of them.
type Asker struct {
	Service catalog.ServiceName `json:"service"`
	Port    string              `json:"port,omitempty"`
	// Caller is a SPIFFE ID; "" are all those that are not told apart.
	Caller   string   `json:"caller,omitempty"`
	Priority Priority `json:"priority"`
	Calls    uint64   `json:"calls"`
}
