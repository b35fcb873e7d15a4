package route

import (
	"slices"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// Verdict is the answer to "may this caller call this service?". Reason is a
// closed vocabulary.
type Verdict struct {
	Allowed bool   `json:"allowed"`
	Reason  string `json:"reason"`
	// Rule names the intention that decided, where one did.
	Rule string `json:"rule,omitempty"`
}

// The reasons of a verdict: those of policy, and two of the route table's.
const (
	ReasonAllowed           = string(policy.ReasonAllowed)
	ReasonUnknownService    = string(policy.ReasonUnknownService)
	ReasonNotExported       = string(policy.ReasonNotExported)
	ReasonCallerNotAsserted = string(policy.ReasonCallerNotAsserted)
	ReasonDeniedByIntention = string(policy.ReasonDeniedByIntention)
	ReasonDefaultDeny       = string(policy.ReasonDefaultDeny)
	// ReasonUnknownPeer: the stream comes from no peer of the table.
	ReasonUnknownPeer = "unknown_peer"
	// ReasonCallerInvalid: the caller is no SPIFFE ID.
	ReasonCallerInvalid = "caller_invalid"
)

// AuthorizeInbound is the far gateway's question for a stream from peer: is the
// service exported to it, may it assert that caller, and do the intentions
// allow the caller? The reserved service federation.OWN is open to every peer's
// gateways, whoever the caller is said to be: the federation behind it
// authenticates the peer's federation end to end.
func (p *Plan) AuthorizeInbound(peer catalog.ClusterName, service catalog.ServiceName, caller string) Verdict {
	from := p.peers[peer]
	if from == nil {
		return Verdict{Reason: ReasonUnknownPeer}
	}
	if service.IsFederation() {
		if service == catalog.FederationService(p.table.Cluster.Name) {
			return Verdict{Allowed: true, Reason: ReasonAllowed}
		}
		return Verdict{Reason: ReasonUnknownService}
	}
	s := p.services[service]
	switch {
	case s == nil || !s.hosted():
		return Verdict{Reason: ReasonUnknownService}
	case !s.exportedTo(peer):
		return Verdict{Reason: ReasonNotExported}
	}
	id, err := spiffeid.FromString(caller)
	if err != nil {
		return Verdict{Reason: ReasonCallerInvalid}
	}
	return verdictOf(p.authorizer.Authorize(policy.AuthzRequest{
		Service: service, Caller: id, FromPeer: true, Peer: peer, PeerAsserts: from.Asserts,
	}))
}

// AuthorizeOutbound is the near gateway's question before Pick: may this caller
// ask for that service at all? For a service that this cluster hosts its own
// intentions decide, for the whole call: a caller that is denied here is not
// sent to another cluster's instances instead. For one that is only imported
// the hosting cluster decides, at its gateway. caller is "" where the way in
// knows none.
func (p *Plan) AuthorizeOutbound(service catalog.ServiceName, caller string) Verdict {
	s := p.services[service]
	if s == nil {
		return Verdict{Reason: ReasonUnknownService}
	}
	var id spiffeid.ID
	if caller != "" {
		var err error
		if id, err = spiffeid.FromString(caller); err != nil {
			return Verdict{Reason: ReasonCallerInvalid}
		}
	}
	if !s.hosted() {
		return Verdict{Allowed: true, Reason: ReasonAllowed}
	}
	return verdictOf(p.authorizer.Authorize(policy.AuthzRequest{Service: service, Caller: id}))
}

func verdictOf(v policy.Verdict) Verdict {
	return Verdict{Allowed: v.Allowed, Reason: string(v.Reason), Rule: v.Rule}
}

// hosted reports whether the service is the own cluster's, even if it has no
// endpoint at the moment.
func (s *servicePlan) hosted() bool {
	return len(s.service.Endpoints) > 0 || len(s.service.ExportedTo) > 0
}

func (s *servicePlan) exportedTo(peer catalog.ClusterName) bool {
	return slices.Contains(s.service.ExportedTo, peer)
}
