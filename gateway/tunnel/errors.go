package tunnel

import (
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// LinkError says that there was no link to send on, or that the link died under a
// stream or a request.
type LinkError struct {
	// Cluster and Gateway say which link; Gateway is empty when there was none.
	Cluster, Gateway string
	// Status is why: LinkDead, Revoked, Draining, Replaced, Unreachable (no link) ...
	Status wire.Status
	// Delivered says that the far end may have seen payload. When false nothing
	// was handed to the link and everything may be replayed elsewhere.
	Delivered bool
	// Err is the cause; nil when Status says it all.
	Err error
}

// Error implements error.
func (e *LinkError) Error() string {
	who := e.Cluster
	if e.Gateway != "" {
		who += "/" + e.Gateway
	}
	if e.Err == nil {
		return fmt.Sprintf("link to %s: %s", who, e.Status)
	}
	return fmt.Sprintf("link to %s: %s: %v", who, e.Status, e.Err)
}

// Unwrap returns the cause.
func (e *LinkError) Unwrap() error { return e.Err }

// RefusedError is a typed refusal of a stream or a request: the far gateway's, or
// that of a limit of this end. No payload reached an endpoint if
// Status.Undelivered().
type RefusedError struct {
	// Cluster and Gateway say who refused.
	Cluster, Gateway string
	Status           wire.Status
	// Message is the far gateway's, for people.
	Message string
	// RetryAfter is how long to leave that cluster alone; zero means unknown.
	RetryAfter time.Duration
}

// Error implements error.
func (e *RefusedError) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("%s/%s refused: %s", e.Cluster, e.Gateway, e.Status)
	}
	return fmt.Sprintf("%s/%s refused: %s: %s", e.Cluster, e.Gateway, e.Status, e.Message)
}

// ResetError says that one direction of a stream was reset (RESET_STREAM or
// STOP_SENDING).
type ResetError struct {
	// Status is the typed code; Reset when the code was not of the closed set.
	Status wire.Status
	// Remote says that the other end did it.
	Remote bool
}

// Error implements error.
func (e *ResetError) Error() string {
	if e.Remote {
		return "stream reset by peer: " + e.Status.String()
	}
	return "stream reset: " + e.Status.String()
}
