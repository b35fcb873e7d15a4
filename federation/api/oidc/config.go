package oidc

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

// The defaults of Config.
const (
	// DefaultRoleClaim is what Keycloak, Dex, Okta and Entra ID can put groups in.
	DefaultRoleClaim = "groups"
	// DefaultMaxLifetime is the longest that a stolen token may be of use.
	DefaultMaxLifetime = time.Hour
)

const (
	// maxLifetimeLimit is a day: a token that lives longer is a password.
	maxLifetimeLimit = 24 * time.Hour
	// maxURL and maxName bound what the configuration names.
	maxURL  = 2048
	maxName = 255
)

// algorithms are what can be asked for: asymmetric only, since a shared secret
// would let this API sign tokens, and confuse a public key with one.
func algorithms() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

// defaultAlgorithms are the ones in common use of each kind of key.
func defaultAlgorithms() []string { return []string{"RS256", "PS256", "ES256", "EdDSA"} }

// Config names one issuer and what its tokens must be.
type Config struct {
	// Issuer is the https URL that tokens must carry as iss, exactly; its keys are
	// found by ISSUER/.well-known/openid-configuration. Plain http is for loopback
	// addresses only.
	Issuer string `yaml:"issuer"`
	// Audience is what tokens must carry in aud.
	Audience string `yaml:"audience"`
	// Algorithms are the signature algorithms that are taken; default RS256, PS256,
	// ES256, EdDSA. Symmetric ones and none cannot be asked for.
	Algorithms []string `yaml:"algorithms"`
	// RoleClaim is the claim, a string or a list of strings, that roles are given
	// by; default groups.
	RoleClaim string `yaml:"role_claim"`
	// MaxLifetime is the most between a token's iat and exp, at most 24h; default
	// 1h.
	MaxLifetime time.Duration `yaml:"max_lifetime"`
	// CAFile holds the PEM roots by which the issuer's servers are known; empty
	// means those of the operating system.
	CAFile string `yaml:"ca_file"`
}

// WithDefaults returns c with each empty field at its default.
func (c Config) WithDefaults() Config {
	if len(c.Algorithms) == 0 {
		c.Algorithms = defaultAlgorithms()
	}
	c.RoleClaim = cmp.Or(c.RoleClaim, DefaultRoleClaim)
	c.MaxLifetime = cmp.Or(c.MaxLifetime, DefaultMaxLifetime)
	return c
}

// Validate reports every problem, each a *strictyaml.FieldError.
func (c Config) Validate() error {
	c = c.WithDefaults()
	var errs []error
	fail := func(field string, value any, rule string) { errs = append(errs, strictyaml.Fail(field, value, rule)) }
	if rule := urlRule(c.Issuer); rule != "" {
		fail("issuer", c.Issuer, rule)
	}
	switch {
	case c.Audience == "":
		fail("audience", c.Audience, "is required: a token for another service must not be taken")
	case len(c.Audience) > maxURL:
		fail("audience", len(c.Audience), fmt.Sprintf("has more than %d characters", maxURL))
	}
	for i, a := range c.Algorithms {
		field := fmt.Sprintf("algorithms[%d]", i)
		switch {
		case !slices.Contains(algorithms(), a):
			fail(field, a, "must be one of "+strings.Join(algorithms(), ", "))
		case slices.Index(c.Algorithms, a) != i:
			fail(field, a, "is there twice")
		}
	}
	if len(c.RoleClaim) > maxName || slices.Contains(ownClaims(), c.RoleClaim) {
		fail("role_claim", c.RoleClaim, "must be the name of a claim of at most 255 characters, and none that has a meaning of its own")
	}
	if c.MaxLifetime < time.Minute || c.MaxLifetime > maxLifetimeLimit {
		fail("max_lifetime", c.MaxLifetime.String(), "must be between 1m and 24h")
	}
	if c.CAFile != "" && !filepath.IsAbs(c.CAFile) {
		fail("ca_file", c.CAFile, "must be an absolute path")
	}
	return errors.Join(errs...)
}

// ownClaims have a meaning of their own.
func ownClaims() []string { return []string{"iss", "aud", "exp", "nbf", "iat", "sub", "jti"} }

// urlRule says what is wrong with an issuer's or a key set's URL, or "".
func urlRule(s string) string {
	u, err := url.Parse(s)
	switch {
	case s == "" || len(s) > maxURL || err != nil || u.Host == "" || u.Opaque != "":
		return "must be the https URL of the issuer"
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(s, "#"):
		return "must have no user, query or fragment"
	case u.Scheme == "https":
		return ""
	case u.Scheme == "http" && loopback(u.Hostname()):
		return ""
	default:
		return "must be https (http is for loopback addresses only)"
	}
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}
