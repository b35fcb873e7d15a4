package wire

import "strconv"

// Status is the far gateway's typed answer to a stream or a request. The set is
// closed: a value outside it is a protocol error, so that a retry decision is
// never taken on a guess. Values are part of the protocol and are never reused.
//
// The same numbers are QUIC application error codes: of a connection that is
// closed (CONNECTION_CLOSE) and of a stream that is reset (RESET_STREAM,
// STOP_SENDING). See [Status.Code].
type Status uint8

// The statuses. The comment says whom to blame and whether the bytes that were
// sent may be replayed elsewhere.
const (
	// OK: the stream is accepted, payload follows.
	OK Status = 0
	// Refused: the endpoint refused the connection. Nothing was delivered.
	Refused Status = 1
	// Unreachable: the endpoint could not be reached in time. Nothing was delivered.
	Unreachable Status = 2
	// Denied: policy (export, assertion, intention) says no. Never retried.
	Denied Status = 3
	// UnknownService: the far cluster has no such service.
	UnknownService Status = 4
	// Overloaded: a limit of the far gateway is reached; see [Reply.RetryAfter].
	Overloaded Status = 5
	// Reset: the connection behind the stream was reset (TCP RST).
	Reset Status = 6
	// Idle: closed by an idle limit.
	Idle Status = 7
	// Draining: the far gateway is going away and takes nothing new.
	Draining Status = 8
	// Protocol: the peer broke the protocol of this package.
	Protocol Status = 9
	// Revoked: the peer is no longer authorized, or its identity expired.
	Revoked Status = 10
	// NoEndpoint: the service is known but none of its endpoints is ready.
	NoEndpoint Status = 11
	// UnknownPort: the service has no port of that name.
	UnknownPort Status = 12
	// DeadlineExceeded: the caller's deadline passed.
	DeadlineExceeded Status = 13
	// Canceled: the caller went away.
	Canceled Status = 14
	// LinkDead: the link was declared dead by its probes.
	LinkDead Status = 15
	// WrongPeer: the hello contradicts the certificate, or it is not the process
	// that the link was opened to.
	WrongPeer Status = 16
	// Version: no common version of the protocol.
	Version Status = 17
	// Replaced: the connection's successor is up and its streams are finished.
	Replaced Status = 18
	// Internal: the far gateway failed by itself.
	Internal Status = 19
)

// numStatuses is one above the highest assigned value.
const numStatuses = 20

var statusNames = [numStatuses]string{
	OK: "ok", Refused: "refused", Unreachable: "unreachable", Denied: "denied",
	UnknownService: "unknown_service", Overloaded: "overloaded", Reset: "reset", Idle: "idle",
	Draining: "draining", Protocol: "protocol", Revoked: "revoked", NoEndpoint: "no_endpoint",
	UnknownPort: "unknown_port", DeadlineExceeded: "deadline_exceeded", Canceled: "canceled",
	LinkDead: "link_dead", WrongPeer: "wrong_peer", Version: "version", Replaced: "replaced",
	Internal: "internal",
}

// Valid reports whether s is of the closed set.
func (s Status) Valid() bool { return s < numStatuses }

// String returns the word that logs, metrics and HTTP header fields use.
func (s Status) String() string {
	if !s.Valid() {
		return "status_" + strconv.Itoa(int(s))
	}
	return statusNames[s]
}

// ParseStatus is the inverse of String for the closed set.
func ParseStatus(s string) (Status, bool) {
	for i, name := range statusNames {
		if name == s {
			return Status(i), true
		}
	}
	return 0, false
}

// Statuses lists the closed set in order, for metrics and documentation.
func Statuses() []Status {
	all := make([]Status, numStatuses)
	for i := range all {
		all[i] = Status(i)
	}
	return all
}

// Code returns the status as an application error code of QUIC.
func (s Status) Code() uint64 { return uint64(s) }

// StatusFromCode reads an application error code; ok is false outside the closed
// set (HTTP/3's codes, for example, which start at 0x100).
func StatusFromCode(code uint64) (s Status, ok bool) {
	if code >= numStatuses {
		return 0, false
	}
	return Status(code), true
}

// Undelivered reports whether the status proves that no byte of the payload
// reached an endpoint, so that the buffered start may be replayed to the next
// choice.
func (s Status) Undelivered() bool {
	switch s {
	case Refused, Unreachable, UnknownService, Overloaded, Draining, NoEndpoint, UnknownPort, Denied, Version, WrongPeer:
		return true
	case OK, Reset, Idle, Protocol, Revoked, DeadlineExceeded, Canceled, LinkDead, Replaced, Internal:
		return false
	}
	return false
}
