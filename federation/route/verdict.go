package route

import "github.com/isthmus-mesh/isthmus/discovery/catalog"

// Verdict is the answer to "may this caller call this service?". Reason is a
// closed vocabulary.
type Verdict struct {
	Allowed bool   `json:"allowed"`
	Reason  string `json:"reason"`
	// Rule names the intention that decided, where one did.
	Rule string `json:"rule,omitempty"`
}

// The reasons of a verdict.
const (
	ReasonAllowed           = "allowed"
	ReasonUnknownService    = "unknown_service"
	ReasonUnknownPeer       = "unknown_peer"
	ReasonNotExported       = "not_exported"
	ReasonCallerInvalid     = "caller_invalid"
	ReasonCallerNotAsserted = "caller_not_asserted"
	ReasonDeniedByIntention = "denied_by_intention"
	ReasonDefaultDeny       = "default_deny"
)

// AuthorizeInbound is the far gateway's question for a stream from peer: is the
// service exported to it, may it assert that caller, and do the intentions
// allow the caller? The reserved service federation.OWN is open to every peer's
// gateways; what it serves authorizes by itself.
func (p *Plan) AuthorizeInbound(peer catalog.ClusterName, service catalog.ServiceName, caller string) Verdict {
	return Verdict{Reason: ReasonDefaultDeny}
}

// AuthorizeOutbound is the near gateway's question before Pick: may this caller
// ask for that service at all?
func (p *Plan) AuthorizeOutbound(service catalog.ServiceName, caller string) Verdict {
	return Verdict{Reason: ReasonDefaultDeny}
}
