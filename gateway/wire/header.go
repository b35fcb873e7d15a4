package wire

import "time"

// Header opens a stream: it says what the stream is for and who asks. It is
// sent once by the side that opens the stream, followed by payload in the same
// flight.
type Header struct {
	// Service is the exported service as the far cluster names it,
	// "name.namespace"; required.
	Service string
	// Port is the name of the service's port; empty means its only port.
	Port string
	// Caller is the SPIFFE ID that the near gateway vouches for; empty means an
	// anonymous caller.
	Caller string
	// Assurance is how the near gateway knows the caller.
	Assurance Assurance
	// TraceParent is a W3C traceparent value; empty means none.
	TraceParent string
	// Deadline is the time left to the caller when the stream was opened, in
	// whole milliseconds on the wire; zero means none.
	Deadline time.Duration
	// Attempt counts the tries of this call, 0 for the first.
	Attempt uint8
}

// Assurance says how a gateway knows who its caller is; weakest first.
type Assurance uint8

// The assurances.
const (
	// AssuranceNone: nothing is known.
	AssuranceNone Assurance = 0
	// AssuranceListener: assigned by the configuration of the listener.
	AssuranceListener Assurance = 1
	// AssurancePeerCred: read from the operating system (Unix socket).
	AssurancePeerCred Assurance = 2
	// AssuranceMTLS: proven by the workload's own SVID.
	AssuranceMTLS Assurance = 3
)

var assuranceNames = [...]string{"none", "listener", "peer_cred", "mtls"}

// Valid reports whether a is of the closed set.
func (a Assurance) Valid() bool { return int(a) < len(assuranceNames) }

// String returns the word that logs and HTTP header fields use.
func (a Assurance) String() string {
	if !a.Valid() {
		return "unknown"
	}
	return assuranceNames[a]
}

// ParseAssurance is the inverse of String for the closed set.
func ParseAssurance(s string) (Assurance, bool) {
	for i, name := range assuranceNames {
		if name == s {
			return Assurance(i), true
		}
	}
	return 0, false
}
