package api

import (
	"context"
	"fmt"
)

// Role is what a principal may do. Roles are ordered: each may do what those
// below it may.
type Role int

// The roles. The zero value may do nothing.
const (
	// NoRole may do nothing.
	NoRole Role = iota
	// Viewer reads.
	Viewer
	// Operator writes policies and speaks the operator's word to sources.
	Operator
	// Admin changes whom the cluster trusts: peers, peering, and reads the audit
	// log.
	Admin
)

// String is the role as configuration and answers write it.
func (r Role) String() string {
	switch r {
	case Viewer:
		return "viewer"
	case Operator:
		return "operator"
	case Admin:
		return "admin"
	default:
		return "none"
	}
}

// ParseRole reads viewer, operator or admin.
func ParseRole(s string) (Role, error) {
	for _, r := range []Role{Viewer, Operator, Admin} {
		if r.String() == s {
			return r, nil
		}
	}
	return NoRole, fmt.Errorf("role %q: must be viewer, operator or admin", s)
}

// MarshalText writes the role.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what ParseRole reads.
func (r *Role) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRole(string(text))
	return err
}

// Allows reports whether the role covers what needs the other one. NoRole covers
// nothing, not even itself.
func (r Role) Allows(need Role) bool { return r != NoRole && r >= need }

// Principal is who makes a request.
type Principal struct {
	// Name is unique among the principals of all ways: "local:UID", "token", a
	// SPIFFE ID, or "ISSUER#SUBJECT".
	Name string
	Role Role
	// Way is how the request came.
	Way Way
}

type principalKey struct{}

// WithPrincipal returns a context that carries who makes the request.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// PrincipalFrom is who makes the request; the zero Principal, with no role, where
// nobody was authenticated.
func PrincipalFrom(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey{}).(Principal)
	return p
}
