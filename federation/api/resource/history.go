package resource

import (
	"encoding/json"
	"time"
)

// Change is one record of the history: a change of policy or peers.
type Change struct {
	// Sequence orders the records; there are no gaps.
	Sequence uint64    `json:"sequence"`
	At       time.Time `json:"at"`
	// Action is what happened; a checkpoint says that older records were dropped.
	Action string `json:"action" enum:"create,replace,delete,checkpoint"`
	Kind   string `json:"kind" doc:"exports, imports, intentions, traffic-policies or peers; history of a checkpoint."`
	Name   string `json:"name,omitempty"`
	Origin Origin `json:"origin" enum:"config,api"`
	// Principal is who asked for it, Reason why.
	Principal string          `json:"principal"`
	Reason    string          `json:"reason,omitempty"`
	RequestID string          `json:"request_id,omitempty"`
	Before    json.RawMessage `json:"before,omitempty" doc:"The rule before; absent where there was none."`
	After     json.RawMessage `json:"after,omitempty" doc:"The rule after; absent where it was deleted."`
	// Previous is the Hash of the record before, Hash covers everything else here.
	Previous string `json:"previous"`
	Hash     string `json:"hash"`
}

// ChangeDetail is one record with what differs between before and after.
type ChangeDetail struct {
	Change
	Diff []Difference `json:"diff" nullable:"false"`
}

// Difference is one place where two JSON documents differ.
type Difference struct {
	// Path is a JSON pointer (RFC 6901).
	Path   string          `json:"path"`
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}

// Verification is the judgement of the chain of records.
type Verification struct {
	OK bool `json:"ok"`
	// First is the lowest sequence from which on every record is kept, Last that
	// of the last record, with its Hash: who notes it elsewhere can tell later
	// that nothing before it was changed.
	First   uint64 `json:"first"`
	Last    uint64 `json:"last"`
	Records int    `json:"records"`
	Bytes   int64  `json:"bytes"`
	Hash    string `json:"hash"`
	// Checkpoint is the sequence of the checkpoint that stands for what was
	// dropped; 0: nothing was.
	Checkpoint uint64 `json:"checkpoint,omitempty"`
	// Broken is the sequence of the first record that does not fit, Rule what it
	// breaks.
	Broken uint64 `json:"broken,omitempty"`
	Rule   string `json:"rule,omitempty"`
}

// Revert is what a revert changed, or would change.
type Revert struct {
	DryRun bool `json:"dry_run,omitempty"`
	// AsOf is the state that was brought back.
	AsOf    uint64         `json:"as_of"`
	Changes []RevertedRule `json:"changes" nullable:"false"`
}

// RevertedRule is one rule that a revert touches.
type RevertedRule struct {
	Kind   string          `json:"kind"`
	Name   string          `json:"name"`
	Action string          `json:"action" enum:"create,replace,delete"`
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}
