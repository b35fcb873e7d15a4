package api

import (
	"context"
	"errors"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/feed"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/rulebook"
	"github.com/isthmus-mesh/isthmus/federation/simulate"
)

// Lists are the resources that are read only. All are set.
type Lists struct {
	Clusters  *feed.Feed[resource.Cluster]
	Peers     *feed.Feed[resource.Peer]
	Services  *feed.Feed[resource.Service]
	Endpoints *feed.Feed[resource.Endpoint]
	Gateways  *feed.Feed[resource.Gateway]
	Links     *feed.Feed[resource.Link]
	Sources   *feed.Feed[resource.Source]
	Replicas  *feed.Feed[resource.Replica]
	Events    *feed.Feed[resource.Event]
}

// Backend is what the API asks of the federation besides lists and rules.
type Backend interface {
	Drills
	// Version describes the process.
	Version() resource.Version
	// Trust lists the roots in force and who hangs below them.
	Trust() resource.Trust
	// Explain returns a *ExplainError where the question cannot be answered.
	Explain(ctx context.Context, q resource.ExplainQuery) (*resource.Explanation, error)
	// Calls lists real calls that the own gateways kept. The error is a
	// *ExplainError.
	Calls(ctx context.Context, q resource.CallQuery) (*resource.Calls, error)
	// Recording is what simulations start from, Simulate makes one of now. Errors are
	// *ExplainError.
	Recording() (*simulate.Recording, error)
	Simulate(ctx context.Context, c simulate.Change) (*resource.Simulation, error)
	// Release lets the withdrawals through that the guard of a source holds back.
	// It returns how many there were, and ErrUnknownSource.
	Release(ctx context.Context, source string) (int, error)
	// Would says what would change for whom if all rules were those of o. It writes
	// nothing.
	Would(ctx context.Context, o rulebook.Outlook) (resource.Impact, error)
	// Callers lists who was seen to call what in the last d; the zero service means all.
	Callers(service catalog.ServiceName, d time.Duration) resource.Callers
	// Spend says what the traffic of the own callers costs; the zero service means all.
	Spend(service catalog.ServiceName) resource.Spend
	// Capacities say what clusters can take of a service; the zero name means all.
	Capacities(service catalog.ServiceName) resource.Capacities
	// NotReady names what keeps the federation from being ready; empty is ready.
	NotReady() []string
	// Degraded names what an operator must look at although everything is served.
	Degraded() []string
}

// ErrUnknownSource means that there is no source of that name.
var ErrUnknownSource = errors.New("no such source")

// ExplainReason says why a question about a route cannot be answered.
type ExplainReason string

// The reasons.
const (
	// UnknownCluster: from= names neither this cluster nor a peer.
	UnknownCluster ExplainReason = "unknown-cluster"
	// UnknownGateway: gateway= names no gateway that reports.
	UnknownGateway ExplainReason = "unknown-gateway"
	// NoGateway: no gateway of the cluster has reported.
	NoGateway ExplainReason = "no-gateway"
	// RefusedByPeer: the service is not shared with the peer, or it says no.
	RefusedByPeer ExplainReason = "refused-by-peer"
	// PeerUnreachable: the peer's federation did not answer.
	PeerUnreachable ExplainReason = "peer-unreachable"
)

// ExplainError is a question that cannot be answered.
type ExplainError struct {
	Reason  ExplainReason
	Cluster catalog.ClusterName
	Gateway string
	Err     error
}

// Error names the cluster or the gateway.
func (e *ExplainError) Error() string {
	s := string(e.Reason) + ": " + string(e.Cluster)
	if e.Gateway != "" {
		s += "/" + e.Gateway
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap is the cause.
func (e *ExplainError) Unwrap() error { return e.Err }

// Rules are the policies that can be written.
type Rules interface {
	Exports() *rulebook.Shelf[resource.Export]
	Imports() *rulebook.Shelf[resource.Import]
	Intentions() *rulebook.Shelf[resource.Intention]
	TrafficPolicies() *rulebook.Shelf[resource.TrafficPolicy]
	PeerRules() *rulebook.Shelf[resource.PeerRule]
	// Stored are the rules of a kind that the store keeps, Restore makes some of
	// them what they were: see rulebook.Book.
	Stored(ctx context.Context, kind string) ([]rulebook.Change, error)
	Restore(ctx context.Context, changes []rulebook.Change, dryRun bool) ([]rulebook.Restored, error)
	// Applied is what sets of declarative files applied last.
	Applied() *rulebook.Applied
}
