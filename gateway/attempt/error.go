package attempt

import (
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// ReasonNoTable means that the gateway has not had a route table yet.
const ReasonNoTable = "no_table"

// Limit says which sort of limit refused a call.
type Limit uint8

// The sorts of limits.
const (
	// NoLimit: it was none.
	NoLimit Limit = iota
	// RateLimit: the caller has called too often.
	RateLimit
	// Overload: there is no room for the call.
	Overload
)

// Error says why a call got no answer. Its Reason is of a closed vocabulary: a
// word of route.Status or of a route.Verdict when no attempt was made, else of
// wire.Status; one of flow's where a limit refused it; or ReasonNoTable.
type Error struct {
	Reason  string
	Service catalog.ServiceName
	// Denied: a policy said no. Rule is the intention that did, if one did, or the rate
	// or bound of a limit.
	Denied bool
	Rule   string
	// Withdrawn: a policy said no when the call was in progress. It may have been executed.
	Withdrawn bool
	// Limit says whether a limit refused the call, here or at the far gateway;
	// RetryAfter is how long to stay away then, 0 where it is not known.
	Limit      Limit
	RetryAfter time.Duration
	// Status is the last attempt's; wire.OK when none was made.
	Status wire.Status
	// Undelivered: of no attempt can anything have been executed.
	Undelivered bool
	// Cluster is the one that the last attempt went to, "" when none was made.
	Cluster  catalog.ClusterName
	Attempts int
	// Err is the cause; nil when Reason says it all.
	Err error
}

// Error implements error.
func (e *Error) Error() string {
	switch {
	case e.Err != nil:
		return fmt.Sprintf("call to %s: %s after %d attempts: %v", e.Service, e.Reason, e.Attempts, e.Err)
	case e.Rule != "":
		return fmt.Sprintf("call to %s: %s (%s)", e.Service, e.Reason, e.Rule)
	default:
		return fmt.Sprintf("call to %s: %s", e.Service, e.Reason)
	}
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
