package mesh

import (
	"time"

	"github.com/isthmus-mesh/isthmus/federation/route"
)

// The paths of the gateway protocol, and the prefix of the exchange.
const (
	// TablePath streams JSON lines of TableLine: GET, with the query parameters
	// epoch and version of the table that the gateway has (both 0: none). With
	// patch=1 the gateway takes a Patch in place of a Table.
	TablePath = "/gateway/v1/table"
	// ReportPath takes a route.Report by POST and answers 204.
	ReportPath = "/gateway/v1/report"
	// ExchangePrefix is served by the exchange.
	ExchangePrefix = "/exchange/v1/"
)

const (
	// HeartbeatEvery is how often a silent table stream shows that it lives.
	HeartbeatEvery = 5 * time.Second
	// MaxTableBytes bounds one line of the table stream: 1,000,000 endpoints take
	// about 200 bytes each.
	MaxTableBytes = 256 << 20
	// MaxSharesBytes bounds the answer to a report: route.MaxDemands budgets, each with a
	// SPIFFE ID.
	MaxSharesBytes = 4 << 20
	// MaxReportBytes bounds one report: 100,000 endpoints and targets of about
	// 200 bytes each.
	MaxReportBytes = 32 << 20
)

// TableLine is one line of the table stream; exactly one field is set.
type TableLine struct {
	// Table is sent when the gateway's is not the current one, whole.
	Table *route.Table `json:"table,omitempty"`
	// Patch is sent in place of Table to a gateway that asks for it.
	Patch *Patch `json:"patch,omitempty"`
	// Heartbeat is sent every HeartbeatEvery.
	Heartbeat *Heartbeat `json:"heartbeat,omitempty"`
}

// Heartbeat says that the federation lives, and which table is the current one.
type Heartbeat struct {
	Epoch   uint64 `json:"epoch"`
	Version uint64 `json:"version"`
}
