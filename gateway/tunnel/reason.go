package tunnel

import (
	"context"
	"crypto/tls"
	"errors"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/isthmus-mesh/isthmus/identity"
)

// Reasons beyond the words of wire.Status and identity.Reason. Together they are
// the closed vocabulary of LinkInfo.Reason and of the metrics' reason label.
const (
	// reasonDial: the address could not be resolved, or the socket failed.
	reasonDial = "dial"
	// reasonTimeout: no answer in time.
	reasonTimeout = "timeout"
	// reasonRestarted: the peer's process no longer knows the connection
	// (stateless reset).
	reasonRestarted = "restarted"
	// reasonRejected: the peer did not accept our identity (TLS alert). It does
	// not say why, on purpose; its own log and metrics do.
	reasonRejected = "rejected"
	// reasonBusy: the peer refused the connection before looking at it.
	reasonBusy = "busy"
	// reasonTransport: the peer's QUIC broke a rule, or ours did.
	reasonTransport = "transport"
)

// reasonOf says in one word why a connection or an attempt failed.
func reasonOf(err error) string {
	if e, ok := errors.AsType[*identity.PeerError](err); ok {
		return string(e.Reason)
	}
	if e, ok := errors.AsType[*LinkError](err); ok {
		return e.Status.String()
	}
	if e, ok := errors.AsType[*quic.ApplicationError](err); ok {
		return applicationStatus(e).String()
	}
	if _, ok := errors.AsType[*wire.ParseError](err); ok {
		return wire.Protocol.String()
	}
	if _, ok := errors.AsType[*quic.StatelessResetError](err); ok {
		return reasonRestarted
	}
	if e, ok := errors.AsType[*quic.TransportError](err); ok {
		switch {
		case e.ErrorCode == quic.ConnectionRefused:
			return reasonBusy
		case e.ErrorCode.IsCryptoError() && e.Remote:
			return reasonRejected
		default:
			return reasonTransport
		}
	}
	if _, ok := errors.AsType[tls.AlertError](err); ok {
		return reasonRejected // what the other end said in the handshake on TCP
	}
	if timedOut(err) {
		return reasonTimeout
	}
	return reasonDial
}

func timedOut(err error) bool {
	if _, ok := errors.AsType[*quic.HandshakeTimeoutError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*quic.IdleTimeoutError](err); ok {
		return true
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errHeard)
}

// applicationStatus reads the code with which a connection was closed.
func applicationStatus(e *quic.ApplicationError) wire.Status {
	if s, ok := wire.StatusFromCode(uint64(e.ErrorCode)); ok {
		return s
	}
	if http3.ErrCode(e.ErrorCode) == http3.ErrCodeNoError {
		return wire.Draining // how HTTP/3 ends a connection after GOAWAY
	}
	return wire.Protocol
}

// closeStatus says with which status a connection ended, for who used it.
func closeStatus(err error) wire.Status {
	if e, ok := errors.AsType[*LinkError](err); ok {
		return e.Status
	}
	if e, ok := errors.AsType[*quic.ApplicationError](err); ok {
		return applicationStatus(e)
	}
	return wire.LinkDead
}
