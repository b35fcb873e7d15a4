package retry

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/isthmus-mesh/isthmus/gateway/workload"
)

// Fault is what the error of one attempt means.
type Fault struct {
	// Status is the typed reason.
	Status wire.Status
	// Undelivered: certainly nothing of the call reached an endpoint.
	Undelivered bool
	// Final: no other place may be asked.
	Final bool
	// Outcome says whom the failure speaks of.
	Outcome route.Outcome
}

// May reports whether the call may be tried elsewhere. idempotent says that it
// may be executed twice, and that no byte of an answer has been handed on.
func (f Fault) May(idempotent bool) bool {
	return !f.Final && (f.Undelivered || idempotent)
}

// ConnectError says that no connection to an endpoint of the own cluster could be made,
// so nothing was delivered.
type ConnectError struct {
	// Endpoint is the endpoint's ID.
	Endpoint string
	Err      error
}

// Error implements error.
func (e *ConnectError) Error() string {
	return "connect to endpoint " + e.Endpoint + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.Err }

// Status is Refused where the endpoint's host said no, else Unreachable.
func (e *ConnectError) Status() wire.Status {
	if errors.Is(e.Err, syscall.ECONNREFUSED) {
		return wire.Refused
	}
	return wire.Unreachable
}

// Classify says what err means. ctx is the caller's: when it has ended, that is
// the cause, whatever failed because of it. err is not nil.
func Classify(ctx context.Context, err error) Fault {
	if status, ended := Ended(ctx); ended {
		return Fault{Status: status, Final: true, Outcome: route.CallerFailure}
	}
	if e, ok := errors.AsType[*tunnel.RefusedError](err); ok {
		return refused(e.Status)
	}
	if e, ok := errors.AsType[*tunnel.LinkError](err); ok {
		return Fault{Status: e.Status, Undelivered: !e.Delivered, Outcome: route.LinkFailure}
	}
	if _, ok := errors.AsType[*workload.DeniedError](err); ok {
		// The endpoint's mesh has said no, before anything was delivered. Another
		// endpoint would be a way around it, and the service is well.
		return Fault{Status: wire.Denied, Undelivered: true, Final: true, Outcome: route.Refusal}
	}
	if e, ok := errors.AsType[*ConnectError](err); ok {
		return Fault{Status: e.Status(), Undelivered: true, Outcome: route.ServiceFailure}
	}
	if e, ok := errors.AsType[*tunnel.ResetError](err); ok {
		return reset(e.Status)
	}
	if isTimeout(err) {
		return Fault{Status: wire.Unreachable, Outcome: route.ServiceFailure}
	}
	// The endpoint's connection broke: it may have executed the call.
	return Fault{Status: wire.Reset, Outcome: route.ServiceFailure}
}

// Ended says how ctx ended: the caller's deadline passed, or it went away. A deadline
// counts from its instant on, also where ctx's timer has not fired yet: an endpoint
// that keeps the same deadline may have noticed first and reset the call.
func Ended(ctx context.Context) (wire.Status, bool) {
	switch err := ctx.Err(); {
	case err == nil:
		if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
			return wire.DeadlineExceeded, true
		}
		return wire.OK, false
	case errors.Is(err, context.DeadlineExceeded):
		return wire.DeadlineExceeded, true
	default:
		return wire.Canceled, true
	}
}

// refused reads a far gateway's refusal.
func refused(s wire.Status) Fault {
	f := Fault{Status: s, Undelivered: s.Undelivered(), Outcome: route.Refusal}
	switch s {
	case wire.Refused, wire.Unreachable, wire.NoEndpoint, wire.UnknownService, wire.UnknownPort, wire.Reset:
		// The catalog promised a service that is not there, or died.
		f.Outcome = route.ServiceFailure
	case wire.Draining, wire.LinkDead, wire.WrongPeer, wire.Version, wire.Replaced, wire.Internal, wire.Protocol, wire.Revoked:
		f.Outcome = route.LinkFailure
	case wire.Denied:
		// Another cluster's answer would be a way around this one's policy.
		f.Final = true
	case wire.DeadlineExceeded, wire.Canceled:
		f.Final, f.Outcome = true, route.CallerFailure
	case wire.OK, wire.Overloaded, wire.Idle:
	}
	return f
}

// reset reads the reset of a stream whose fate was open.
func reset(s wire.Status) Fault {
	f := refused(s)
	f.Undelivered = false
	if s == wire.Idle || s == wire.OK {
		f.Outcome = route.ServiceFailure
	}
	return f
}

func isTimeout(err error) bool {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}
