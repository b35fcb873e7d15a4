package workload

import (
	"context"
	"errors"
	"net"
	"os"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/isthmus-mesh/isthmus/identity"
)

// DeniedError says that an endpoint has looked at the gateway's certificate and said
// no: an intention of its mesh, a root that it does not know. Nothing was delivered.
// TLS does not say which it was, so it counts as the policy that it mostly is: asking
// elsewhere would be a way around it.
type DeniedError struct{ Err error }

// Error implements error.
func (e *DeniedError) Error() string {
	return "the endpoint refused the gateway's certificate: " + e.Err.Error()
}

// Unwrap returns the alert.
func (e *DeniedError) Unwrap() error { return e.Err }

// Status is what other gateways are told.
func (*DeniedError) Status() wire.Status { return wire.Denied }

// RevokedError ends a connection whose certificate no longer leads to a root.
type RevokedError struct{ Err error }

// Error implements error.
func (e *RevokedError) Error() string {
	return "the peer's certificate is no longer trusted: " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *RevokedError) Unwrap() error { return e.Err }

// Status is what other gateways are told.
func (*RevokedError) Status() wire.Status { return wire.Revoked }

// RefusedError refuses a workload that has proven who it is.
type RefusedError struct {
	// Reason is a word for logs and metrics, of a closed set.
	Reason string
	Err    error
}

// Error implements error.
func (e *RefusedError) Error() string { return e.Reason + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *RefusedError) Unwrap() error { return e.Err }

// The results of a handshake besides the reasons of package identity.
const (
	resultOK      = "ok"
	resultDenied  = "denied"
	resultTimeout = "timeout"
	resultBroken  = "broken"
)

// Reason is the typed reason of a failed handshake, for logs and metrics: one of
// identity.Reasons, or denied, timeout or broken.
func Reason(err error) string {
	if err == nil {
		return resultOK
	}
	if e, ok := errors.AsType[*identity.PeerError](err); ok {
		return string(e.Reason)
	}
	if _, ok := errors.AsType[*DeniedError](err); ok {
		return resultDenied
	}
	if e, ok := errors.AsType[*RefusedError](err); ok {
		return e.Reason
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return resultTimeout
	}
	return resultBroken
}

// isAlert reports whether err is a TLS alert of the other end. crypto/tls gives it no
// other mark.
func isAlert(err error) bool {
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == "remote error"
}
