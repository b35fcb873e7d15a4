package api

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
	"github.com/isthmus-mesh/isthmus/federation/api/oidc"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// The defaults of AuthConfig.
const (
	// DefaultRate and DefaultBurst are what one principal may ask: a person with a
	// browser stays below it, and a script that runs wild costs the federation 1 %
	// of a core.
	DefaultRate  = 10
	DefaultBurst = 20
)

const (
	// maxBindings and maxBound bound the roles that a file gives.
	maxBindings = 256
	maxBound    = 256
	maxRate     = 100_000
	// maxSubject bounds a subject or a claim's value.
	maxSubject = 255
)

// AuthConfig says who may use the REST API, and for what.
type AuthConfig struct {
	// TokenRole is the role of whoever brings the token of token_file: viewer,
	// operator or admin (default).
	TokenRole string `yaml:"token_role"`
	// Roles give roles to SPIFFE IDs and to OIDC tokens. Where several fit, the
	// highest counts; who fits none may do nothing.
	Roles []RoleConfig `yaml:"roles"`
	// OIDC makes bearer tokens of one issuer welcome.
	OIDC *oidc.Config `yaml:"oidc"`
	// Rate is what each principal may ask. Those of the host itself (the socket,
	// and the token of token_file) have ten times as much.
	Rate RateConfig `yaml:"rate"`
}

// RoleConfig gives one role.
type RoleConfig struct {
	// Role is viewer (reads), operator (and writes policies) or admin (and changes
	// peers, and reads the audit log).
	Role string `yaml:"role"`
	// IDs are SPIFFE ID patterns, for clients over mTLS.
	IDs []policy.IDPattern `yaml:"ids"`
	// Subjects are the sub of OIDC tokens, exactly.
	Subjects []string `yaml:"subjects"`
	// Claims are values of the token's role claim (oidc.role_claim), exactly.
	Claims []string `yaml:"claims"`
}

// RateConfig is a token bucket.
type RateConfig struct {
	// PerSecond are the requests per second in the long run; default 10.
	PerSecond float64 `yaml:"per_second"`
	// Burst are the requests that may come at once; default 20.
	Burst int `yaml:"burst"`
}

// MTLSConfig is the listener for clients on other hosts.
type MTLSConfig struct {
	// Address is an ip:port. Clients are known by their SPIFFE IDs, and admitted
	// where auth.roles has a pattern that fits; empty means no such listener.
	Address string `yaml:"address"`
}

// WithDefaults returns c with each empty field at its default.
func (c AuthConfig) WithDefaults() AuthConfig {
	c.TokenRole = cmp.Or(c.TokenRole, Admin.String())
	c.Rate.PerSecond = cmp.Or(c.Rate.PerSecond, DefaultRate)
	c.Rate.Burst = cmp.Or(c.Rate.Burst, DefaultBurst)
	return c
}

// Equal reports whether both say the same.
func (c AuthConfig) Equal(o AuthConfig) bool { return reflect.DeepEqual(c, o) }

// Validate reports every problem, each a *strictyaml.FieldError.
func (c AuthConfig) Validate() error {
	c = c.WithDefaults()
	var errs []error
	fail := func(field string, value any, rule string) { errs = append(errs, strictyaml.Fail(field, value, rule)) }
	role := func(field, value string) {
		if _, err := ParseRole(value); err != nil {
			fail(field, value, "must be viewer, operator or admin")
		}
	}
	role("token_role", c.TokenRole)
	if c.Rate.PerSecond < 0.1 || c.Rate.PerSecond > maxRate {
		fail("rate.per_second", c.Rate.PerSecond, fmt.Sprintf("must be between 0.1 and %d", maxRate))
	}
	if c.Rate.Burst < 1 || c.Rate.Burst > maxRate {
		fail("rate.burst", c.Rate.Burst, fmt.Sprintf("must be between 1 and %d", maxRate))
	}
	if len(c.Roles) > maxBindings {
		fail("roles", len(c.Roles), fmt.Sprintf("has more than %d entries", maxBindings))
		return errors.Join(errs...)
	}
	for i, b := range c.Roles {
		at := fmt.Sprintf("roles[%d]", i)
		role(at+".role", b.Role)
		if len(b.IDs)+len(b.Subjects)+len(b.Claims) == 0 {
			fail(at, b.Role, "must name ids, subjects or claims: the role is nobody's else")
		}
		if n := len(b.IDs) + len(b.Subjects) + len(b.Claims); n > maxBound {
			fail(at, n, fmt.Sprintf("names more than %d", maxBound))
			continue
		}
		for j, id := range b.IDs {
			if _, err := policy.ParseIDPattern(string(id)); err != nil {
				fail(fmt.Sprintf("%s.ids[%d]", at, j), string(id), err.Error())
			}
		}
		for field, values := range map[string][]string{"subjects": b.Subjects, "claims": b.Claims} {
			if len(values) > 0 && c.OIDC == nil {
				fail(at+"."+field, values[0], "needs auth.oidc: it is matched against its tokens")
			}
			if j := slices.IndexFunc(values, func(s string) bool { return s == "" || len(s) > maxSubject }); j >= 0 {
				fail(fmt.Sprintf("%s.%s[%d]", at, field, j), values[j], fmt.Sprintf("must have 1 to %d characters", maxSubject))
			}
		}
	}
	if c.OIDC != nil {
		errs = append(errs, strictyaml.Within("oidc", c.OIDC.Validate()))
	}
	return errors.Join(errs...)
}
