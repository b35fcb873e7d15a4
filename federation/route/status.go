package route

import (
	"math"
	"slices"
)

// Status says how a decision ended. Its texts are a closed vocabulary, used in
// the API, logs and metrics.
type Status uint8

// The statuses of a decision.
const (
	// OK: there is a choice.
	OK Status = iota
	// UnknownService: the table has no such service (not hosted, not imported).
	UnknownService
	// UnknownPort: no cluster has that port of the service, or "" was asked of a
	// service with several ports and none called "default".
	UnknownPort
	// NoCandidate: the service is known, and nothing is fit to take the call.
	NoCandidate
	// NotExported: a peer asked for a service that is exported to nobody.
	NotExported
	// Exhausted: every candidate was tried by this request.
	Exhausted
	// FailClosed: the tier that was drawn is below its panic threshold, and the
	// traffic policy says to refuse then.
	FailClosed
	// ResidencyHeld: nothing is fit to take the call in the places where the traffic
	// policy's residency lets it go, but elsewhere something is.
	ResidencyHeld
	// Shed: everything that could take the call is at its capacity, or keeps its
	// last slots for calls of higher priority.
	Shed
)

var statusText = [...]string{
	OK: "ok", UnknownService: "unknown_service", UnknownPort: "unknown_port", NoCandidate: "no_candidate",
	NotExported: "not_exported", Exhausted: "exhausted", FailClosed: "fail_closed",
	ResidencyHeld: "residency",
	Shed:          "shed",
}

// String is the status's word.
func (s Status) String() string {
	if int(s) < len(statusText) {
		return statusText[s]
	}
	return "invalid"
}

// MarshalText is String.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote, so that clients can read a Ledger.
// A word of a newer version becomes one that no Status has.
func (s *Status) UnmarshalText(b []byte) error {
	*s = Status(indexOf(statusText[:], string(b)))
	return nil
}

// Mode says in which frame of mind a choice was made.
type Mode uint8

// The modes of a choice.
const (
	// Normal: among the healthy.
	Normal Mode = iota
	// Probation: the one real request that tests a target after its ejection.
	Probation
	// Panic: too few are healthy, so health is ignored (Envoy's panic mode).
	Panic
	// SuspectSelf: every link is down at once and nothing is local, so the
	// fault is probably this gateway's; the last known weights are kept and a
	// call may be tried.
	SuspectSelf
)

var modeText = [...]string{Normal: "normal", Probation: "probation", Panic: "panic", SuspectSelf: "suspect_self"}

// String is the mode's word.
func (m Mode) String() string {
	if int(m) < len(modeText) {
		return modeText[m]
	}
	return "invalid"
}

// MarshalText is String.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText is that of Status.
func (m *Mode) UnmarshalText(b []byte) error {
	*m = Mode(indexOf(modeText[:], string(b)))
	return nil
}

func indexOf(words []string, word string) uint8 {
	if i := slices.Index(words, word); i >= 0 {
		return uint8(i)
	}
	return math.MaxUint8
}
