package policy

import (
	"fmt"
	"strings"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// ServicePattern is an exact "name.namespace", "*.namespace" or "*".
type ServicePattern string

// Match reports whether the pattern covers n. Reserved federation services are
// covered by no pattern.
func (p ServicePattern) Match(n catalog.ServiceName) bool {
	if n.IsFederation() {
		return false
	}
	if p == "*" {
		return true
	}
	if ns, ok := strings.CutPrefix(string(p), "*."); ok {
		return ns == n.Namespace()
	}
	return string(p) == n.String()
}

// Exact returns the one service that the pattern names, if it is no wildcard
// and in canonical form: what Match would not match is not named either.
func (p ServicePattern) Exact() (catalog.ServiceName, bool) {
	n, err := catalog.ParseServiceName(string(p))
	if err != nil || n.IsFederation() || n.String() != string(p) {
		return catalog.ServiceName{}, false
	}
	return n, true
}

// ParseServicePattern checks s and returns its canonical form ("web" becomes
// "web.default").
func ParseServicePattern(s string) (ServicePattern, error) {
	if s == "*" {
		return "*", nil
	}
	if ns, ok := strings.CutPrefix(s, "*."); ok {
		if _, err := catalog.NewServiceName("x", ns); err != nil || ns == "" {
			return "", fmt.Errorf("service pattern %q: namespace %q must be a DNS label", s, ns)
		}
		return ServicePattern(s), nil
	}
	n, err := catalog.ParseServiceName(s)
	if err != nil {
		return "", fmt.Errorf("service pattern %q: must be name.namespace, *.namespace or *: %w", s, err)
	}
	if n.IsFederation() {
		return "", fmt.Errorf("service pattern %q: federation.* is reserved", s)
	}
	return ServicePattern(n.String()), nil
}

// UnmarshalText is ParseServicePattern.
func (p *ServicePattern) UnmarshalText(b []byte) error {
	v, err := ParseServicePattern(string(b))
	if err != nil {
		return err
	}
	*p = v
	return nil
}

// IDPattern is a SPIFFE ID ("spiffe://td/a/b"), all IDs below a path
// ("spiffe://td/a/*"), or a whole trust domain ("spiffe://td/*").
type IDPattern string

// Bounds of a SPIFFE ID (SPIFFE-ID standard, section 2.3).
const (
	MaxIDLen          = 2048
	MaxTrustDomainLen = 255
)

// ParseIDPattern checks s.
func ParseIDPattern(s string) (IDPattern, error) {
	if len(s) > MaxIDLen {
		return "", fmt.Errorf("id pattern %q: has %d bytes, at most %d", shorten(s), len(s), MaxIDLen)
	}
	base, wild := strings.CutSuffix(s, "/*")
	id, err := spiffeid.FromString(base)
	if err != nil {
		return "", fmt.Errorf("id pattern %q: must be a SPIFFE ID, or one with a last segment \"*\": %w", s, err)
	}
	td := id.TrustDomain().Name()
	if len(td) > MaxTrustDomainLen {
		return "", fmt.Errorf("id pattern %q: trust domain has %d bytes, at most %d", shorten(s), len(td), MaxTrustDomainLen)
	}
	if strings.HasPrefix(td, ".") || strings.HasSuffix(td, ".") || strings.Contains(td, "..") {
		return "", fmt.Errorf("id pattern %q: trust domain %q has an empty label", s, td)
	}
	if !wild && id.Path() == "" {
		return "", fmt.Errorf("id pattern %q: a trust domain alone is no workload; write %s/*", s, s)
	}
	return IDPattern(s), nil
}

// Match reports whether the pattern covers id. Segments match whole: ".../a/*"
// covers ".../a/b" but neither ".../a" nor ".../ab".
func (p IDPattern) Match(id spiffeid.ID) bool {
	if id.IsZero() {
		return false
	}
	s := id.String()
	if base, wild := strings.CutSuffix(string(p), "/*"); wild {
		return len(s) > len(base)+1 && strings.HasPrefix(s, base) && s[len(base)] == '/'
	}
	return s == string(p)
}

// UnmarshalText is ParseIDPattern.
func (p *IDPattern) UnmarshalText(b []byte) error {
	v, err := ParseIDPattern(string(b))
	if err != nil {
		return err
	}
	*p = v
	return nil
}
