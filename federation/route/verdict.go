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
	ReasonAmbiguousPath = string(policy.ReasonAmbiguousPath)
)

// Ask is who wants to call what.
type Ask struct {
	Service catalog.ServiceName
	// Port is a port name, "" for the only or default one.
	Port string
	// Caller is a SPIFFE ID, "" where the way in knows none.
	Caller string
	// HTTP is the request. Nil of a connection: on a port that carries HTTP its
	// requests are to be judged one by one as they come, so that the conditions of
	// intentions are left open until then; on any other port there will be none,
	// and conditions fail closed.
	HTTP *policy.HTTPRequest
}

// AuthorizeInbound is the far gateway's question for a call from peer: is the
// service exported to it, may it assert that caller, and do the intentions
// allow the caller? The reserved service federation.OWN is open to every peer's
// gateways, whoever the caller is said to be: the federation behind it
// authenticates the peer's federation end to end.
func (p *Plan) AuthorizeInbound(peer catalog.ClusterName, ask *Ask) Verdict {
	service := ask.Service
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
	s := p.of(service)
	switch {
	case s == nil || !s.hosted():
		return Verdict{Reason: ReasonUnknownService}
	case !s.exportedTo(peer):
		return Verdict{Reason: ReasonNotExported}
	}
	id, err := spiffeid.FromString(ask.Caller)
	if err != nil {
		return Verdict{Reason: ReasonCallerInvalid}
	}
	return verdictOf(p.authorizer.Authorize(policy.AuthzRequest{
		Service: service, Caller: id, FromPeer: true, Peer: peer, PeerAsserts: from.Asserts,
		HTTP: ask.HTTP, Pending: s.carriesHTTP(ask.Port),
	}))
}

// AuthorizeOutbound is the near gateway's question before Pick: may this caller
// ask for that service at all? For a service that this cluster hosts its own
// intentions decide, for the whole call: a caller that is denied here is not
// sent to another cluster's instances instead. For one that is only imported
// the hosting cluster decides, at its gateway.
func (p *Plan) AuthorizeOutbound(ask *Ask) Verdict {
	s := p.of(ask.Service)
	if s == nil {
		return Verdict{Reason: ReasonUnknownService}
	}
	var id spiffeid.ID
	if ask.Caller != "" {
		var err error
		if id, err = spiffeid.FromString(ask.Caller); err != nil {
			return Verdict{Reason: ReasonCallerInvalid}
		}
	}
	if !s.hosted() {
		return Verdict{Allowed: true, Reason: ReasonAllowed}
	}
	return verdictOf(p.authorizer.Authorize(policy.AuthzRequest{
		Service: ask.Service, Caller: id, HTTP: ask.HTTP, Pending: s.carriesHTTP(ask.Port),
	}))
}

func verdictOf(v policy.Verdict) Verdict {
	return Verdict{Allowed: v.Allowed, Reason: string(v.Reason), Rule: v.Rule}
}

// PriorityOf is the priority that the service's traffic policy gives to a call of a
// caller in this cluster.
func (p *Plan) PriorityOf(ask *Ask) Priority {
	s := p.of(ask.Service)
	if s == nil || s.priorities == nil {
		return PriorityDefault
	}
	id, _ := spiffeid.FromString(ask.Caller) // zero: rules for some callers do not cover it
	priority, _ := priorityOf(s.priorities.Of(id, ask.HTTP))
	return priority
}

// priorityOf is a policy's word as a number.
func priorityOf(word policy.CallPriority) (p Priority, ok bool) {
	switch word {
	case policy.CriticalPriority:
		return PriorityCritical, true
	case policy.LowPriority:
		return PriorityLow, true
	case policy.DefaultPriority:
		return PriorityDefault, true
	}
	return PriorityDefault, false
}

// Believed is the priority that a call is given of which a peer's gateway claims one: at
// most what the own cluster's operators allow that peer.
func (p *Plan) Believed(peer catalog.ClusterName, claimed Priority) Priority {
	from := p.peers[peer]
	if from == nil || from.MaxPriority == "" {
		return claimed
	}
	most, _ := priorityOf(from.MaxPriority)
	if claimed.Above(most) {
		return most
	}
	return claimed
}

// Hosts reports whether the service is the own cluster's, so that its own intentions
// decide about calls to it.
func (p *Plan) Hosts(service catalog.ServiceName) bool {
	s := p.of(service)
	return s != nil && s.hosted()
}

// Offered reports whether the service is imported from cluster.
func (p *Plan) Offered(service catalog.ServiceName, cluster catalog.ClusterName) bool {
	s := p.of(service)
	return s != nil && slices.ContainsFunc(s.service.Remote, func(r Remote) bool { return r.Cluster == cluster })
}

// CarriesHTTP reports whether connections to the port are carried as HTTP, so that each
// request is judged by itself.
func (p *Plan) CarriesHTTP(service catalog.ServiceName, port string) bool {
	s := p.of(service)
	return s != nil && s.carriesHTTP(port)
}

// Protocol is what the port speaks; false of a service or port that is not in the table.
func (p *Plan) Protocol(service catalog.ServiceName, port string) (catalog.Protocol, bool) {
	s := p.of(service)
	if s == nil {
		return "", false
	}
	pp := s.port(port)
	if pp == nil {
		return "", false
	}
	return pp.port.Protocol, true
}

// carriesHTTP reports whether gateways carry the port's connections as HTTP.
func (s *servicePlan) carriesHTTP(port string) bool {
	p := s.port(port)
	return p != nil && (p.port.Protocol == catalog.HTTP || p.port.Protocol == catalog.GRPC)
}

// hosted reports whether the service is the own cluster's, even if it has no
// endpoint at the moment.
func (s *servicePlan) hosted() bool {
	return len(s.service.Endpoints) > 0 || len(s.service.ExportedTo) > 0
}

func (s *servicePlan) exportedTo(peer catalog.ClusterName) bool {
	return slices.Contains(s.service.ExportedTo, peer)
}
