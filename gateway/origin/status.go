package origin

import (
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// ReplyTo is what the near gateway is told of a call that failed here. It says
// what that gateway needs to decide, and nothing of endpoints or rules.
func ReplyTo(e *attempt.Error) wire.Reply {
	if e.Withdrawn {
		// Whatever was withdrawn, also an export: an endpoint may have executed the call, and
		// every status that says that there is no such service has it sent elsewhere.
		return wire.Reply{Status: wire.Denied}
	}
	if e.Limit != attempt.NoLimit {
		return wire.Reply{Status: wire.Overloaded, Message: wire.LimitMessage(e.Reason, e.Rule), RetryAfter: e.RetryAfter}
	}
	if e.Attempts > 0 || e.Status != wire.OK {
		return wire.Reply{Status: e.Status}
	}
	switch e.Reason {
	case route.ReasonUnknownService, route.ReasonNotExported, route.NotExported.String(), attempt.ReasonNoTable:
		// Whether a service exists that is not exported is not the peer's business.
		return wire.Reply{Status: wire.UnknownService}
	case route.UnknownPort.String():
		return wire.Reply{Status: wire.UnknownPort}
	}
	if e.Denied {
		return wire.Reply{Status: wire.Denied, Message: e.Reason}
	}
	return wire.Reply{Status: wire.NoEndpoint}
}
