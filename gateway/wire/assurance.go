package wire

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
