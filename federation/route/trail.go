package route

import (
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Trail is what one gateway kept of one real call: who asked for what, each
// attempt with the ledger of its decision, and how it ended. The near and the far
// gateway of a call each keep their own; they share its IDs. Its JSON is part of
// the API.
type Trail struct {
	// Cluster and Gateway kept it.
	Cluster catalog.ClusterName `json:"cluster"`
	Gateway string              `json:"gateway"`
	// Way is how the call came in: "http", "tcp" or "mtls" of a caller in this
	// cluster, "request" or "stream" of a peer's gateway.
	Way string `json:"way"`
	// TraceID is that of the W3C traceparent, RequestID that of x-request-id.
	TraceID   string              `json:"trace_id,omitempty"`
	RequestID string              `json:"request_id,omitempty"`
	Service   catalog.ServiceName `json:"service,omitzero"`
	Port      string              `json:"port,omitempty"`
	Caller    string              `json:"caller,omitempty"`
	// Peer is the cluster whose gateway, PeerGateway, brought the call: what decided
	// there is kept there, under the same IDs.
	Peer        catalog.ClusterName `json:"peer,omitempty"`
	PeerGateway string              `json:"peer_gateway,omitempty"`
	Started     time.Time           `json:"started"`
	Duration    time.Duration       `json:"duration_ns"`
	// Answered is when the service's first word came, counted from the start; 0 if
	// it never did.
	Answered time.Duration `json:"answered_ns,omitempty"`
	// Reason is how it ended: "ok", or a word of the access log.
	Reason string `json:"reason"`
	// Rule is the intention that refused it.
	Rule string `json:"rule,omitempty"`
	// Status is the HTTP status, 0 where there is none.
	Status   int            `json:"status,omitempty"`
	Sent     int64          `json:"sent_bytes"`
	Received int64          `json:"received_bytes"`
	Kept     TrailKept      `json:"kept"`
	Attempts []TrailAttempt `json:"attempts"`
}

// TrailKept says why a trail was kept.
type TrailKept string

// The reasons, the first that fits.
const (
	KeptFailed  TrailKept = "failed"
	KeptRetried TrailKept = "retried"
	KeptSlow    TrailKept = "slow"
	// KeptTraced: the caller's traceparent has the sampled flag.
	KeptTraced TrailKept = "traced"
	// KeptSampled: it is of the configured share.
	KeptSampled TrailKept = "sampled"
)

// TrailAttempt is one decision of a call, and what came of it.
type TrailAttempt struct {
	// Cluster, Gateway (of a peer) and Endpoint (of the own cluster) are where the
	// attempt went; empty where the decision found nowhere to go.
	Cluster  catalog.ClusterName `json:"cluster,omitempty"`
	Gateway  string              `json:"gateway,omitempty"`
	Endpoint string              `json:"endpoint,omitempty"`
	Began    time.Time           `json:"began"`
	// Took is the time to the first word of the service, or to the failure.
	Took time.Duration `json:"took_ns"`
	// Predicted is what the time to the first word was predicted to be when the attempt
	// was chosen; 0 where nothing was.
	Predicted time.Duration `json:"predicted_ns,omitempty"`
	// Outcome is "ok", a word of the wire's statuses, or of the decision's.
	Outcome string `json:"outcome"`
	Error   string `json:"error,omitempty"`
	// Ledger is the decision, repeated from what it had read. Exact says that the
	// repetition chose what the call was really given.
	Ledger *Ledger `json:"ledger"`
	Exact  bool    `json:"exact"`
	// Saved is what the decision had read, to be repeated elsewhere (SavedTrails); nil
	// where it was not asked for.
	Saved *SavedDecision `json:"saved,omitempty"`
}

// TrailOf fills an attempt's decision: plan and rec are what it was made by, choice
// is what it gave.
func TrailOf(plan *Plan, rec Record, choice *Choice) (a TrailAttempt) {
	a.Ledger = plan.Replay(rec)
	chosen := savedChoice(choice)
	a.Exact, a.Cluster, a.Endpoint = a.Ledger.chose(&chosen), chosen.Cluster, chosen.Endpoint
	return a
}
