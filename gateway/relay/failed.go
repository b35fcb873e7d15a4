package relay

import (
	"net/http"

	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// statusCanceled is what the access log shows of a caller that went away; nobody
// reads it as an answer (nginx introduced the number).
const statusCanceled = 499

// ProblemOf is the answer to a call that failed. 503 promises that nothing was
// executed, 502 does not.
func ProblemOf(e *attempt.Error) Problem {
	if e.Limit != attempt.NoLimit {
		return LimitProblem(e)
	}
	p := Problem{Reason: e.Reason, Service: e.Service.String(), Cluster: string(e.Cluster)}
	switch {
	case e.Reason == route.ReasonAmbiguousPath:
		p.Status, p.Detail = http.StatusBadRequest, "the path can be read in two ways, and a rule of the service looks at paths"
	case e.Denied:
		p.Status = http.StatusForbidden
		if e.Rule != "" {
			p.Detail = "intention " + e.Rule
		}
	case e.Attempts == 0 && e.Status == wire.OK:
		p.Status = http.StatusServiceUnavailable
		if e.Reason == route.UnknownService.String() || e.Reason == route.UnknownPort.String() {
			p.Status = http.StatusNotFound
		}
	default:
		p.Status = statusOf(e)
	}
	return p
}

func statusOf(e *attempt.Error) int {
	switch e.Status {
	case wire.DeadlineExceeded:
		return http.StatusGatewayTimeout
	case wire.Canceled:
		return statusCanceled
	default:
		if e.Undelivered {
			return http.StatusServiceUnavailable
		}
		return http.StatusBadGateway
	}
}
