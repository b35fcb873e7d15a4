package httpway

// The reasons of this way that no decision and no far gateway gives.
const (
	reasonAuthority = "unknown_authority"
	reasonReserved  = "reserved"
	reasonMethod    = "method_not_allowed"
	reasonMalformed = "malformed"
)
