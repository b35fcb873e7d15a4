package oidc

import "fmt"

// Reason is the closed vocabulary of refusals. It is told to who sent the token:
// it says nothing that the token did not.
type Reason string

// The reasons.
const (
	// Malformed: no JWT of three parts, or one that two parsers could read in two
	// ways (repeated members, loose base64, spaces).
	Malformed Reason = "malformed"
	// TooLarge: more than MaxToken bytes.
	TooLarge Reason = "too-large"
	// BadAlgorithm: alg is none of the configured ones.
	BadAlgorithm Reason = "algorithm"
	// BadType: typ or cty is that of another kind of token.
	BadType Reason = "type"
	// Critical: the header has an extension that must be understood.
	Critical Reason = "critical-header"
	// UnknownKey: the issuer has no key of that kid that fits the algorithm.
	UnknownKey Reason = "unknown-key"
	// BadSignature: the key did not sign it.
	BadSignature Reason = "signature"
	// WrongIssuer, WrongAudience: it is another one's, or for another one.
	WrongIssuer   Reason = "issuer"
	WrongAudience Reason = "audience"
	// Expired, NotYet: not valid at this time.
	Expired Reason = "expired"
	NotYet  Reason = "not-yet-valid"
	// TooLong: it lives longer than the configuration allows.
	TooLong Reason = "lifetime"
	// BadClaims: a claim is missing or of a wrong kind.
	BadClaims Reason = "claims"
	// NoKeys: the issuer's keys are not known; the token may be good.
	NoKeys Reason = "keys-unavailable"
)

// TokenError is a token that is refused.
type TokenError struct {
	Reason Reason
	Err    error // nil where the reason says all
}

// Error says the reason first.
func (e *TokenError) Error() string {
	if e.Err == nil {
		return "token refused: " + string(e.Reason)
	}
	return "token refused: " + string(e.Reason) + ": " + e.Err.Error()
}

// Unwrap is the cause.
func (e *TokenError) Unwrap() error { return e.Err }

func refuse(r Reason) *TokenError { return &TokenError{Reason: r} }

func refusef(r Reason, format string, args ...any) *TokenError {
	return &TokenError{Reason: r, Err: fmt.Errorf(format, args...)}
}
